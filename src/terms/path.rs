//! Paths as partners name them: one canonical form, used by policy, listing and storage alike.
//!
//! A [`VirtualPath`] never escapes its root, never holds `.` or `..`, an empty part, a NUL or a
//! control character, and is valid UTF-8. There is no other way to name a file.

use std::fmt;

use crate::terms::limits;

/// An absolute, normalised path inside a partner's virtual folders.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtualPath(String);

/// Why bytes are not a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// A byte below 0x20, or 0x7f.
    #[error("names must not contain control characters")]
    ControlCharacter,
    /// One part is over 255 bytes.
    #[error("a name may have 255 bytes at most")]
    NameTooLong,
    /// Not UTF-8.
    #[error("names must be UTF-8")]
    NotUtf8,
    /// It would lie in one of the gateway's own folders.
    #[error("a folder of this name is the gateway's own")]
    Reserved,
    /// The whole is over the limit.
    #[error("a path may have 4096 bytes at most")]
    PathTooLong,
}

/// The names clients give a file until it is whole: `*.filepart`, `.in.*` and the like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartialNames(Vec<String>);

// === impl PartialNames ===

impl Default for PartialNames {
    fn default() -> Self {
        Self(
            [
                "*.filepart",
                "*.partial",
                "*.part",
                "*.tmp",
                "*.inprogress",
                ".in.*",
            ]
            .map(str::to_owned)
            .into(),
        )
    }
}

impl PartialNames {
    /// Patterns with exactly one `*`, at the start or at the end, and something beside it.
    ///
    /// # Errors
    /// The first pattern that is not one.
    pub fn parse(patterns: &[String]) -> Result<Self, String> {
        let fits = |p: &String| {
            p.matches('*').count() == 1 && p.len() > 1 && (p.starts_with('*') || p.ends_with('*'))
        };
        match patterns.iter().find(|p| !fits(p)) {
            Some(bad) => Err(bad.clone()),
            None => Ok(Self(patterns.to_vec())),
        }
    }

    /// The name the file will have when it is whole; `None` when `name` is already final.
    #[must_use]
    pub fn final_name<'n>(&self, name: &'n str) -> Option<&'n str> {
        self.0
            .iter()
            .find_map(|pattern| match pattern.strip_prefix('*') {
                Some(suffix) => name.strip_suffix(suffix),
                None => name.strip_prefix(pattern.trim_end_matches('*')),
            })
            .filter(|rest| !rest.is_empty())
    }
}

// === impl VirtualPath ===

impl VirtualPath {
    /// `/`, the partner's root.
    #[must_use]
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// Normalises what a client sent. Relative paths start at the root (the home directory);
    /// `..` above the root stays at the root, as chroot does.
    ///
    /// ```
    /// use sallyport::terms::path::VirtualPath;
    ///
    /// let path = VirtualPath::parse(b"inbox/../../etc//passwd")?;
    /// assert_eq!(path.as_str(), "/etc/passwd");
    /// assert!(VirtualPath::parse(b"/inbox/\xff").is_err());
    /// # Ok::<(), sallyport::terms::path::BadPath>(())
    /// ```
    ///
    /// # Errors
    /// [`BadPath`] for bytes no path may hold; nothing is ever altered to make it fit.
    pub fn parse(raw: &[u8]) -> Result<Self, BadPath> {
        if raw.len() > limits::PATH_BYTES_MAX {
            return Err(BadPath::PathTooLong);
        }
        let text = str::from_utf8(raw).map_err(|_| BadPath::NotUtf8)?;
        if text.chars().any(char::is_control) {
            return Err(BadPath::ControlCharacter);
        }
        let mut parts: Vec<&str> = Vec::new();
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    parts.pop();
                }
                name if name.len() > limits::NAME_BYTES_MAX => return Err(BadPath::NameTooLong),
                name => parts.push(name),
            }
        }
        Ok(Self(format!("/{}", parts.join("/"))))
    }

    /// The path as text, starting with `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part; `None` for the root.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.rsplit('/').next().filter(|name| !name.is_empty())
    }

    /// The folder that holds this path; the root holds itself.
    #[must_use]
    pub fn parent(&self) -> Self {
        match self.0.rfind('/') {
            Some(0) | None => Self::root(),
            Some(at) => Self(self.0.get(..at).unwrap_or("/").to_owned()),
        }
    }

    /// This path with one more part; `name` must itself be one valid part.
    ///
    /// # Errors
    /// [`BadPath`] when the name is not one.
    pub fn join(&self, name: &str) -> Result<Self, BadPath> {
        Self::parse(format!("{}/{name}", self.0).as_bytes())
    }

    /// What remains below `folder`, without a leading slash; `None` when not strictly inside.
    #[must_use]
    pub fn below(&self, folder: &Self) -> Option<&str> {
        if folder.0 == "/" {
            return self.0.strip_prefix('/').filter(|rest| !rest.is_empty());
        }
        self.0
            .strip_prefix(folder.as_str())?
            .strip_prefix('/')
            .filter(|rest| !rest.is_empty())
    }
}

impl fmt::Display for VirtualPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Partner-supplied text made safe for a log, a status line or a terminal: control and
/// direction-changing characters become `\u{..}`, and what is over `chars_max` is cut with `...`.
#[must_use]
pub fn quoted(text: &str, chars_max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(chars_max) + 2);
    for (count, c) in text.chars().enumerate() {
        if count == chars_max {
            out.push_str("...");
            break;
        }
        if c.is_control() || is_format_character(c) || c == '\\' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Characters that change how the text around them is shown (Unicode category Cf, the ones
/// known from the "Trojan Source" attack, and the byte order mark).
pub(crate) fn is_format_character(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{ad}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &str, expect: &str) {
        assert_eq!(
            VirtualPath::parse(raw.as_bytes()).map(|p| p.0),
            Ok(expect.to_owned())
        );
    }

    #[test]
    fn every_spelling_of_a_path_has_one_form_and_none_escapes() {
        check("", "/");
        check(".", "/");
        check("inbox", "/inbox");
        check("/inbox/", "/inbox");
        check("//inbox//a.csv", "/inbox/a.csv");
        check("/inbox/./a/../b", "/inbox/b");
        check("../../etc/passwd", "/etc/passwd");
        check("/inbox/../../..", "/");
        check("/inbox/{hostname}%2e%2e", "/inbox/{hostname}%2e%2e");
    }

    #[test]
    fn parsing_twice_changes_nothing() {
        for raw in ["a/../b", "/x/y", "/", "....//"] {
            let once = VirtualPath::parse(raw.as_bytes()).unwrap();
            assert_eq!(VirtualPath::parse(once.as_str().as_bytes()), Ok(once));
        }
    }

    #[test]
    fn bytes_no_path_may_hold_are_refused() {
        assert_eq!(VirtualPath::parse(b"/inbox/\xff"), Err(BadPath::NotUtf8));
        assert_eq!(VirtualPath::parse(b"/a\0b"), Err(BadPath::ControlCharacter));
        assert_eq!(
            VirtualPath::parse(b"/a\x1b[2J"),
            Err(BadPath::ControlCharacter)
        );
        assert_eq!(
            VirtualPath::parse("x".repeat(256).as_bytes()),
            Err(BadPath::NameTooLong)
        );
        assert!(VirtualPath::parse("x".repeat(255).as_bytes()).is_ok());
    }

    #[test]
    fn parent_name_and_below_agree() {
        let path = VirtualPath::parse("/inbox/ä/x.csv".as_bytes()).unwrap();
        assert_eq!(path.name(), Some("x.csv"));
        assert_eq!(path.parent().as_str(), "/inbox/ä");
        assert_eq!(
            path.below(&VirtualPath::parse(b"/inbox").unwrap()),
            Some("ä/x.csv")
        );
        assert_eq!(path.below(&VirtualPath::parse(b"/in").unwrap()), None);
        assert_eq!(VirtualPath::root().name(), None);
    }

    #[test]
    fn a_partial_name_knows_its_final_name() {
        let names = PartialNames::default();
        assert_eq!(names.final_name("a.csv.filepart"), Some("a.csv"));
        assert_eq!(names.final_name(".in.a.csv"), Some("a.csv"));
        assert_eq!(names.final_name("a.csv"), None);
        assert_eq!(names.final_name(".part"), None);
        assert_eq!(PartialNames::parse(&["*".to_owned()]), Err("*".to_owned()));
    }

    #[test]
    fn quoted_text_cannot_drive_a_terminal() {
        assert_eq!(
            quoted("a\r\n\u{1b}[2J\u{202e}b", 80),
            "a\\r\\n\\u{1b}[2J\\u{202e}b"
        );
        assert_eq!(quoted("abcdef", 3), "abc...");
    }
}
