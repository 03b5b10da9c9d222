//! Answers lookups from a table that is too large for a message: the message only names it, and the mesh brings it.
//!
//! A table is text with a `key,value` on each line. Its content id is published to `tables.current`; from then on answers
//! come from it, and the table before may be evicted.

mod table;

use macula_plugin::{content, info, prelude::*};
use table::Table;

/// What is read of content at a time: the most that one read gives.
const PIECE_BYTES: u32 = 1 << 20;

#[derive(Default)]
struct Lookup {
    current: Option<(String, Table)>,
}

impl Lookup {
    /// Reads a table. Bytes that are not on this host yet are fetched; what comes is what the id names, or nothing.
    fn load(&mut self, mcid: &str) -> Result {
        let blob = content::open(mcid)?;
        let mut table = Table::default();
        let mut offset = 0;
        while offset < blob.size() {
            let piece = blob.read(offset, PIECE_BYTES)?;
            offset += piece.len() as u64;
            table.read(&piece)?;
        }
        table.end()?;
        content::pin(mcid)?;
        info!(mcid, entries = table.len(), "a new table");
        if let Some((before, _)) = self.current.replace((mcid.to_owned(), table))
            && before != mcid
        {
            content::unpin(&before)?;
        }
        Ok(())
    }
}

impl MessageHandler for Lookup {
    fn on_message(&mut self, message: Message) -> Result {
        // An error that may pass has the message come again; another puts it aside. The table before answers on.
        self.load(message.text()?.trim())
    }
}

impl CallHandler for Lookup {
    fn on_call(&mut self, request: Request) -> Result<Vec<u8>> {
        let key: String = request.json()?;
        let (_, table) = self.current.as_ref().ok_or_else(|| Failure::code("no-table", "no table has come yet"))?;
        let value =
            table.get(&key).ok_or_else(|| Failure::code("unknown-key", format!("{key:?} is not in the table")))?;
        Ok(to_json(value)?)
    }
}

impl StateHandler for Lookup {
    fn snapshot(&mut self) -> Result<Vec<u8>> {
        // The table itself is pinned on this host: its id is enough.
        Ok(self.current.as_ref().map(|(mcid, _)| mcid.clone().into_bytes()).unwrap_or_default())
    }

    fn restore(&mut self, state: Vec<u8>, _version: &str) -> Result {
        if state.is_empty() {
            return Ok(());
        }
        let mcid = String::from_utf8(state)?;
        self.load(&mcid)
    }
}

macula_plugin::export!(Lookup: message, call, state);

#[cfg(test)]
mod tests {
    use super::Lookup;
    use macula_plugin::{Disposition, testing::Host};

    fn get(host: &mut Host<Lookup>, key: &str) -> Result<String, String> {
        let answer = host.call("lookup.get", &format!("{key:?}"));
        answer.map(|bytes| String::from_utf8(bytes).expect("JSON is UTF-8")).map_err(|error| error.code)
    }

    #[test]
    fn answers_come_from_the_newest_table() {
        let mut host = Host::<Lookup>::start();
        assert_eq!(get(&mut host, "berlin"), Err("no-table".into()));
        let first = host.put_content(b"berlin,3.7\nparis,2.1\n");
        assert_eq!(host.deliver("tables.current", &first), Disposition::Ack);
        assert_eq!(get(&mut host, "berlin").as_deref(), Ok("\"3.7\""));
        assert_eq!(get(&mut host, "rome"), Err("unknown-key".into()));
        assert!(host.is_pinned(&first));
        let second = host.put_content(b"rome,2.8");
        host.deliver("tables.current", &second);
        assert_eq!(get(&mut host, "rome").as_deref(), Ok("\"2.8\""));
        assert_eq!(get(&mut host, "berlin"), Err("unknown-key".into()));
        assert!(host.is_pinned(&second) && !host.is_pinned(&first));
        host.swap().unwrap();
        assert_eq!(get(&mut host, "rome").as_deref(), Ok("\"2.8\""), "the next version has it too");
    }

    #[test]
    fn a_table_that_is_none_changes_nothing() {
        let mut host = Host::<Lookup>::start();
        let good = host.put_content(b"berlin,3.7\n");
        host.deliver("tables.current", &good);
        let bad = host.put_content(b"no comma here\n");
        for table in [bad.as_str(), "no id", ""] {
            let outcome = host.deliver("tables.current", table);
            assert!(matches!(outcome, Disposition::DeadLetter(_) | Disposition::Reject(_)), "{table}: {outcome:?}");
        }
        assert_eq!(get(&mut host, "berlin").as_deref(), Ok("\"3.7\""));
    }
}
