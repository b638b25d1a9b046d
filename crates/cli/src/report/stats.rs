//! The table of `--stats`: one column for each kind of event, a row now and then.

use std::fmt::Write as _;

/// Rows after which the header is repeated.
const ROWS: u32 = 20;
/// Width of a column, with the space in front.
const WIDTH: usize = 7;

/// The table as it is printed, row by row. A kind of event is a name; its counter counts since the
/// start.
#[derive(Clone, Debug)]
pub struct Table {
    names: &'static [&'static str],
    rows: u32,
}

impl Table {
    /// A table with one column for each of `names`.
    #[must_use]
    pub const fn new(names: &'static [&'static str]) -> Self {
        Self { names, rows: 0 }
    }

    /// The next row, behind the header if that is due. Counters are in the order of the names.
    pub fn row(&mut self, counters: &[u64]) -> String {
        let mut text = if self.rows % ROWS == 0 { self.header() } else { String::new() };
        self.rows = self.rows.wrapping_add(1);
        text.push(' ');
        for counter in counters {
            // A String takes whatever is written to it.
            let _ = write!(text, " {counter:>width$}", width = WIDTH - 1);
        }
        text.push('\n');
        text
    }

    /// One line for each name, which ends above its column; rulers lead the earlier ones down.
    fn header(&self) -> String {
        let mut text = String::new();
        for (position, name) in self.names.iter().enumerate() {
            text.push(' ');
            for _ in 0..position {
                let _ = write!(text, "{:>WIDTH$}", "|");
            }
            let _ = writeln!(text, "{:>WIDTH$} {name}", "|");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout() {
        let mut table = Table::new(&["tap", "UDP flow", "timer"]);
        assert_eq!(
            table.row(&[1, 22, 1_234_567]),
            concat!(
                "       | tap\n",
                "       |      | UDP flow\n",
                "       |      |      | timer\n",
                "       1     22 1234567\n",
            )
        );
        for _ in 1..ROWS {
            assert_eq!(table.row(&[0, 0, 0]), "       0      0      0\n");
        }
        assert!(table.row(&[0, 0, 0]).starts_with("       | tap\n"));
    }
}
