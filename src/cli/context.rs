//! What every verb works with: flags, environment, clock, streams, and the ways to files.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::admin::Caller;
use crate::cli::Global;
use crate::cli::console::{Console, needs_flag};
use crate::cli::exit::{Alphabet, Exit, Failure, Mistakes};
use crate::cli::live;
use crate::config::Config;
use crate::ledger::Ledger;
use crate::policy::mistake::Mistake;
use crate::telemetry::Rng;
use crate::terms::clock::{Clock, Timestamp};

/// One command's surroundings.
pub struct Context {
    /// The flags every verb takes.
    pub global: Global,
    /// The environment, as it was at the start.
    pub env: BTreeMap<String, String>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where keys come from.
    pub rng: Rng,
    /// The streams.
    pub console: Console,
}

/// A configuration and where it was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// What it says.
    pub config: Config,
}

// === impl Context ===

impl Context {
    /// Surroundings from their parts.
    #[must_use]
    pub fn new(
        global: Global,
        env: BTreeMap<String, String>,
        clock: Arc<dyn Clock>,
        rng: Rng,
        console: Console,
    ) -> Self {
        Self {
            global,
            env,
            clock,
            rng,
            console,
        }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Fresh random bytes.
    ///
    /// # Errors
    /// The system has none.
    pub fn random<const N: usize>(&self) -> Result<[u8; N], Failure> {
        self.rng
            .array()
            .map_err(|error| Failure::new(Exit::Internal, "random", error.to_string()))
    }

    /// Finds the main configuration: `--config`, then the usual places.
    ///
    /// # Errors
    /// Exit 2 with the places looked at.
    pub fn config_path(&self) -> Result<PathBuf, Failure> {
        if let Some(path) = &self.global.config {
            return Ok(path.clone());
        }
        let places = self.config_places();
        places
            .iter()
            .find(|path| path.is_file())
            .cloned()
            .ok_or_else(|| {
                let looked: Vec<String> = places
                    .iter()
                    .map(|path| path.display().to_string())
                    .collect();
                Failure::usage("config.not-found", "there is no sallyport.toml")
                    .because(format!("looked at {}", looked.join(", ")))
                    .hint("make one with `sallyport init DIR`, or name it with --config FILE")
            })
    }

    fn config_places(&self) -> Vec<PathBuf> {
        let user = match (self.env.get("XDG_CONFIG_HOME"), self.env.get("HOME")) {
            (Some(folder), _) if !folder.is_empty() => Some(PathBuf::from(folder)),
            (_, Some(home)) => Some(Path::new(home).join(".config")),
            (_, None) => None,
        };
        std::iter::once(PathBuf::from("sallyport.toml"))
            .chain(user.map(|folder| folder.join("sallyport/sallyport.toml")))
            .chain(std::iter::once(PathBuf::from(
                "/etc/sallyport/sallyport.toml",
            )))
            .collect()
    }

    /// Reads and checks the main configuration.
    ///
    /// # Errors
    /// Exit 2 with every mistake.
    pub fn config(&self) -> Result<Found, Failure> {
        let path = self.config_path()?;
        let text = read_text(&path)?;
        let config = self.parse_config(&path, &text).map_err(|found| {
            let count = found.len();
            mistakes(
                &found,
                "config.mistakes",
                &format!("{} in {}", counted_mistakes(count), path.display()),
            )
            .hint("`sallyport config show --defaults` prints every key with its default")
        })?;
        Ok(Found { path, config })
    }

    /// Checks the text of a main configuration that lies, or will lie, at `path`.
    ///
    /// # Errors
    /// Every mistake.
    pub fn parse_config(&self, path: &Path, text: &str) -> Result<Config, Vec<Mistake>> {
        let base = absolute(path);
        let base = base.parent().unwrap_or(Path::new("/"));
        let base = base.to_string_lossy();
        // Outside the service there is no folder of credentials; its files lie in `keys`.
        let env = |name: &str| match self.env.get(name) {
            None if name == "CREDENTIALS_DIRECTORY" => Some(format!("{base}/keys")),
            found => found.cloned(),
        };
        Config::parse(text, &path.display().to_string(), &base, &env)
    }

    /// Asks the running gateway.
    ///
    /// # Errors
    /// Exit 5 when nobody answers; otherwise what the gateway says.
    pub fn ask(&self, request: &crate::admin::Request) -> Result<serde_json::Value, Failure> {
        let path = match &self.global.socket {
            Some(path) => path.clone(),
            None => self.config()?.config.admin_socket,
        };
        live::ask(&path, request)
    }

    /// Runs an act on the ledger itself, read-only, beside a running or stopped gateway.
    ///
    /// # Errors
    /// Those of opening, and of the act.
    pub fn offline<T, F>(&self, act: impl FnOnce(Ledger, Config) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, crate::admin::AdminFault>>,
    {
        let config = self.config()?.config;
        if !Ledger::exists(&config.state_dir) {
            return Err(Failure::not_found(
                "ledger.none",
                format!("there is no ledger in {}", config.state_dir.display()),
            )
            .hint("no gateway has run with this configuration; is it the right --config?"));
        }
        let ledger =
            Ledger::open_read_only(&config.state_dir).map_err(crate::admin::AdminFault::from)?;
        Ok(runtime()?.block_on(act(ledger, config))?)
    }

    /// What the locale says the terminal can show.
    #[must_use]
    pub fn alphabet(&self) -> Alphabet {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .find_map(|name| self.env.get(name).filter(|value| !value.is_empty()));
        let is_utf8 = locale.is_some_and(|locale| {
            let locale = locale.to_ascii_lowercase();
            locale.ends_with("utf-8") || locale.ends_with("utf8")
        });
        if is_utf8 {
            Alphabet::Utf8
        } else {
            Alphabet::Ascii
        }
    }

    /// Who is asking, for acts the command line does itself.
    #[must_use]
    pub fn caller(&self) -> Caller {
        Caller::of_uid(rustix::process::getuid().as_raw())
    }

    /// Gets a yes, from `--yes` or from the terminal.
    ///
    /// # Errors
    /// Exit 4 when the answer is no; exit 2 when there is nobody to ask.
    pub fn confirm(&mut self, question: &str) -> Result<(), Failure> {
        if self.global.yes {
            return Ok(());
        }
        if self.global.no_input || !self.console.may_ask() {
            return Err(needs_flag(question, "--yes"));
        }
        if self.console.ask(question)? {
            Ok(())
        } else {
            Err(Failure::new(
                Exit::NotPermitted,
                "input.refused",
                "not confirmed; nothing was changed",
            ))
        }
    }

    /// `text`, or `would text` under `--dry-run`.
    #[must_use]
    pub fn would(&self, done: &str, would: &str) -> String {
        if self.global.dry_run {
            format!("would {would}")
        } else {
            done.to_owned()
        }
    }
}

/// A runtime for one command.
///
/// # Errors
/// The machine gives no threads.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::new(Exit::Internal, "runtime", "cannot start").because(error.to_string())
        })
}

/// Mistakes of files as one failure.
#[must_use]
pub fn mistakes(found: &[Mistake], code: &str, message: &str) -> Failure {
    let join = |render: fn(&Mistake) -> String| -> String {
        let rendered: Vec<String> = found.iter().map(render).collect();
        rendered.join("\n")
    };
    Failure {
        mistakes: Some(Box::new(Mistakes {
            shown: join(Mistake::render),
            shown_ascii: join(Mistake::render_ascii),
            data: serde_json::to_value(found).unwrap_or_default(),
        })),
        ..Failure::usage(code, message)
    }
}

/// `1 mistake`, `2 mistakes`.
#[must_use]
pub fn counted_mistakes(count: usize) -> String {
    if count == 1 {
        "1 mistake".to_owned()
    } else {
        format!("{count} mistakes")
    }
}

/// Reads a UTF-8 file.
///
/// # Errors
/// One sentence with the file.
pub fn read_text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))
}

/// Writes a whole file or none: beside it first, then renamed over it.
///
/// # Errors
/// One sentence with the file.
pub fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(".sallyport-")
            .permissions(std::fs::Permissions::from_mode(mode))
            .tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file()
            .set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        std::fs::File::open(folder)?.sync_all()
    };
    write().map_err(|error| Failure::file("write", path, &error))
}

/// The path from `/`, without asking whether it exists.
#[must_use]
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::cli::console::Captured;
    use crate::terms::clock::ManualClock;

    /// A context in memory: no environment, 2026-11-21 05:44:30 UTC, nobody to ask.
    pub(crate) fn context() -> (Context, Captured, Captured) {
        let (console, out, err) = Console::captured();
        let clock = ManualClock::at(Timestamp::from_micros(1_795_239_870_996_000));
        let context = Context::new(
            Global::default(),
            BTreeMap::new(),
            Arc::new(clock),
            Rng::system(),
            console,
        );
        (context, out, err)
    }

    #[test]
    fn a_missing_configuration_names_the_places_and_the_remedy() {
        let (mut context, _, _) = context();
        context
            .env
            .insert("HOME".to_owned(), "/nonexistent/home".to_owned());
        let places = context.config_places();
        assert_eq!(
            places,
            [
                PathBuf::from("sallyport.toml"),
                PathBuf::from("/nonexistent/home/.config/sallyport/sallyport.toml"),
                PathBuf::from("/etc/sallyport/sallyport.toml"),
            ]
        );
        let Err(failure) = context.config_path() else {
            return;
        };
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.hint.unwrap().contains("sallyport init"));
    }

    #[test]
    fn credentials_are_the_keys_beside_the_configuration_outside_the_service() {
        let (mut context, _, _) = context();
        let text = "[tokens]\nkey = \"cred:token.key\"\n[store.lake]\nurl = \"./lake\"\n";
        let path = Path::new("/etc/sallyport/sallyport.toml");
        let config = context.parse_config(path, text).unwrap();
        let expect = Path::new("/etc/sallyport/keys/token.key");
        assert_eq!(config.tokens.key, expect);
        let folder = "/run/credentials/sallyport.service".to_owned();
        context
            .env
            .insert("CREDENTIALS_DIRECTORY".to_owned(), folder);
        let config = context.parse_config(path, text).unwrap();
        let expect = Path::new("/run/credentials/sallyport.service/token.key");
        assert_eq!(config.tokens.key, expect);
    }

    #[test]
    fn a_question_without_a_terminal_names_the_flag() {
        let (mut context, _, _) = context();
        let failure = context.confirm("Revoke?").unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.hint.unwrap().contains("--yes"));
        context.global.yes = true;
        assert_eq!(context.confirm("Revoke?"), Ok(()));
    }

    #[test]
    fn a_file_is_written_whole_with_its_mode() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        write_file(&path, b"one", 0o600).unwrap();
        write_file(&path, b"two", 0o644).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o644
        );
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
