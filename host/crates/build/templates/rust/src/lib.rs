//! Greets whoever says hello: `hello.ada` is answered by a message to `greetings.ada`.

use macula_plugin::prelude::*;
use serde::Serialize;

#[derive(Default)]
struct Greeter {
    count: u64,
}

#[derive(Serialize)]
struct Greeting<'a> {
    text: &'a str,
}

impl MessageHandler for Greeter {
    fn on_message(&mut self, message: Message) -> Result {
        let name = message.segments().nth(1).unwrap_or_default();
        // `greeting` is set in macula.toml; this is what holds without it.
        let text = format!("{}, {name}!", config::get_or("greeting", "Hello"));
        publish(format!("greetings.{name}")).json(&Greeting { text: &text }).send()?;
        self.count += 1;
        Ok(())
    }
}

impl CallHandler for Greeter {
    fn on_call(&mut self, _: Request) -> Result<Vec<u8>> {
        Ok(to_json(&self.count)?)
    }
}

macula_plugin::export!(Greeter: message, call);

#[cfg(test)]
mod tests {
    use super::Greeter;
    use macula_plugin::testing::Host;

    #[test]
    fn greets_by_name() {
        let mut host = Host::<Greeter>::start();
        host.deliver("hello.ada", "");
        assert_eq!(host.take_published()[0].text(), r#"{"text":"Hello, ada!"}"#);
        assert_eq!(host.call("{{name}}.count", "").expect("answers"), b"1");
    }
}
