//! What stands between this process and the rest, in words.

use std::fmt;

/// The layers that are active.
#[derive(Debug, Default)]
pub struct Layers {
    namespaces: Vec<&'static str>,
    others: Vec<String>,
}

impl Layers {
    /// Namespaces of our own.
    pub(super) fn namespaces(&mut self, kinds: &[&'static str]) {
        self.namespaces.extend(kinds);
    }

    /// Anything else.
    pub(super) fn other(&mut self, layer: impl Into<String>) {
        self.others.push(layer.into());
    }
}

impl fmt::Display for Layers {
    /// `user, mount namespaces; empty root; …`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.namespaces.is_empty() {
            write!(f, "{} namespaces", self.namespaces.join(", "))?;
        }
        for (number, layer) in self.others.iter().enumerate() {
            let first = number == 0 && self.namespaces.is_empty();
            write!(f, "{}{layer}", if first { "" } else { "; " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_one_line() {
        let mut layers = Layers::default();
        assert_eq!(layers.to_string(), "");
        layers.other("no capabilities");
        assert_eq!(layers.to_string(), "no capabilities");
        layers.namespaces(&["user"]);
        layers.namespaces(&["mount", "IPC"]);
        layers.other(format!("Landlock ABI {}", 7));
        let line = "user, mount, IPC namespaces; no capabilities; Landlock ABI 7";
        assert_eq!(layers.to_string(), line);
    }
}
