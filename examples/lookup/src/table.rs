//! A table in memory, read in pieces.

use std::collections::HashMap;

use macula_plugin::prelude::*;

/// Bytes of one line.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Values by key.
#[derive(Default)]
pub(crate) struct Table {
    values: HashMap<String, String>,
    /// The last line, whose end has not come yet.
    rest: Vec<u8>,
}

impl Table {
    /// Reads on.
    pub(crate) fn read(&mut self, piece: &[u8]) -> Result {
        let mut lines = piece.split(|byte| *byte == b'\n');
        // Each but the last ends with what came between.
        let last = lines.next_back().unwrap_or_default();
        for line in lines {
            self.rest.extend(line);
            self.end()?;
        }
        self.rest.extend(last);
        if self.rest.len() > LINE_BYTES_MAX {
            return Err(Failure::dead_letter(format!("a line of the table has more than {LINE_BYTES_MAX} bytes")));
        }
        Ok(())
    }

    /// The line is over.
    pub(crate) fn end(&mut self) -> Result {
        let line = String::from_utf8(std::mem::take(&mut self.rest))?;
        let line = line.trim_end_matches('\r');
        if line.is_empty() {
            return Ok(());
        }
        let (key, value) = line
            .split_once(',')
            .ok_or_else(|| Failure::dead_letter(format!("the table has a line without a comma: {line:.80}")))?;
        self.values.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn pieces_may_end_anywhere() {
        let text = "a,1\r\n\nbe,2,3\nc,";
        for size in 1..=text.len() {
            let mut table = Table::default();
            text.as_bytes().chunks(size).for_each(|piece| table.read(piece).unwrap());
            table.end().unwrap();
            assert_eq!((table.get("a"), table.get("be"), table.get("c")), (Some("1"), Some("2,3"), Some("")), "{size}");
            assert_eq!(table.len(), 3);
        }
    }
}
