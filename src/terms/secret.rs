//! A value that never prints itself and is overwritten when dropped.

use std::fmt;

use zeroize::Zeroize;

/// Holds a secret: `Debug` says only that there is one, drop zeroes it.
pub struct Secret<T: Zeroize>(T);

// === impl Secret ===

impl<T: Zeroize> Secret<T> {
    /// Takes the secret into keeping.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The secret itself. Call it at the place of use and keep no copy.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize + Clone> Clone for Secret<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
