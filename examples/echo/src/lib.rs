//! Gives back what it gets: the least a plugin can do, to measure what a message and a call cost.

use macula_plugin::prelude::*;

#[derive(Default)]
struct Echo;

impl MessageHandler for Echo {
    fn on_message(&mut self, message: Message) -> Result {
        publish("bench.out").payload(&message.payload).send()?;
        Ok(())
    }
}

impl CallHandler for Echo {
    fn on_call(&mut self, request: Request) -> Result<Vec<u8>> {
        Ok(request.payload)
    }
}

macula_plugin::export!(Echo: message, call);

#[cfg(test)]
mod tests {
    use super::Echo;
    use macula_plugin::testing::Host;

    #[test]
    fn messages_and_calls_come_back() {
        let mut host = Host::<Echo>::start();
        host.deliver("bench.in", b"\x00\xff");
        let published = host.take_published();
        assert_eq!(published.len(), 1);
        assert_eq!((published[0].topic.as_str(), &*published[0].payload), ("bench.out", &b"\x00\xff"[..]));
        assert_eq!(host.call("bench.echo", "hello"), Ok(b"hello".to_vec()));
    }
}
