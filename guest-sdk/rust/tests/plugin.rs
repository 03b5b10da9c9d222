//! A plugin with every handler, driven through the fake host: what it is told, what it may do, what is left of it.

use macula_plugin::log::Level;
use macula_plugin::testing::{self, Host};
use macula_plugin::{CallError, Disposition, Error, HandlerError, content, identity, prelude::*, pubsub};
use macula_plugin::{debug, error, info, trace, warn};
use std::time::Duration;

#[derive(Default)]
struct Everything {
    seen: Vec<String>,
    sick: bool,
}

impl Lifecycle for Everything {
    fn init(&mut self, reason: StartReason) -> Result {
        self.seen.push(format!("init {reason:?} {}", config::get_or("mood", "good")));
        if config::get("fail").is_some() {
            return Err(Failure::from(Error::Unavailable("the moon".into())));
        }
        subscribe("dynamic.*").queue_messages(10).live_only().open()?;
        advertise("every.dynamic").in_flight_max(2).meta("kind", "test").open()?;
        timers::every("beat", Duration::from_secs(1))?;
        Ok(())
    }

    fn health(&mut self) -> Health {
        if self.sick { Health::Unhealthy("sick".into()) } else { Health::Healthy }
    }

    fn shutdown(&mut self, reason: StopReason, grace: Duration) {
        info!(grace = ?grace, "shutdown {reason:?}");
    }
}

impl MessageHandler for Everything {
    fn on_message(&mut self, message: Message) -> Result {
        self.seen.push(format!("{} {}#{}", message.topic, message.attempt, message.subscription));
        let text = message.text()?;
        match text {
            "publish elsewhere" => _ = publish("elsewhere").text("x").send()?,
            "publish" => {
                publish("out.a").text("x").retain().delivery(pubsub::Delivery::Acked).meta("k", "v").send()?;
                let last = pubsub::retained("out.a")?.ok_or(Failure::new("not retained"))?;
                assert!(last.retained && last.payload == b"x" && last.content_type == "text/plain");
            }
            "bad meta" => _ = publish("out.a").meta("Bad", "v").send()?,
            "call" => {
                let sum: i64 = call("math.add").json(&[1, 2]).timeout(Duration::from_secs(1)).send_json()?;
                self.seen.push(format!("sum {sum}"));
            }
            "store" => {
                let bucket = kv::open("b")?;
                bucket.set("k", b"1")?;
                let version = bucket.get("k")?.map(|entry| entry.version);
                bucket.swap("k", version, b"2")?;
                assert!(matches!(bucket.swap("k", version, b"3"), Err(Error::Conflict(_))));
                assert_eq!((bucket.increment("n", 2)?, bucket.increment("n", -3)?), (2, -1));
                bucket.set_for("soon", b"gone", Duration::from_secs(5))?;
                assert_eq!(bucket.keys("", None, 2)?.next.as_deref(), Some("soon"));
                let writer = content::create()?;
                writer.write(b"hello ")?;
                writer.write(b"world")?;
                let mcid = writer.finish()?;
                content::pin(&mcid)?;
                let blob = content::open(&mcid)?;
                assert_eq!((blob.size(), blob.read(6, 100)?), (11, b"world".to_vec()));
                assert_eq!(content::fetch_all(&mcid)?.state(), content::FetchState::Done);
                self.seen.push(mcid);
            }
            "leave" => pubsub_handle()?.unsubscribe(),
            "may" => self.seen.push(identity::can("/mesh/publish", "out.a").to_string()),
            "timer" => timers::after("once", Duration::from_millis(1_500))?,
            "panic" => panic!("as asked"),
            other => return Err(Failure::retry_after(Duration::from_secs(2), other)),
        }
        Ok(())
    }
}

/// A second handle of the same pattern is refused while the first instance holds it.
fn pubsub_handle() -> Result<pubsub::Subscription> {
    assert!(matches!(subscribe("dynamic.*").open(), Err(Error::Conflict(_))));
    Ok(subscribe("dynamic.again").open()?)
}

impl CallHandler for Everything {
    fn on_call(&mut self, request: Request) -> Result<Vec<u8>> {
        match request.procedure.as_str() {
            "every.manifest" => Ok(to_json(&self.seen)?),
            "every.dynamic" => Ok(request.json::<f64>()?.to_string().into_bytes()),
            other => Err(Failure::unknown_procedure(other)),
        }
    }
}

impl TimerHandler for Everything {
    fn on_timer(&mut self, tick: Tick) -> Result {
        self.seen.push(format!("{} {}", tick.name, tick.due_ms % 100_000));
        if tick.name == "once" { Err(Failure::new("once is enough")) } else { Ok(()) }
    }
}

impl ConfigHandler for Everything {
    fn on_config_changed(&mut self, keys: &[String]) -> Result {
        if config::get("mood").as_deref() == Some("bad") {
            return Err(Failure::new("no bad moods"));
        }
        self.seen.push(format!("changed {keys:?}"));
        Ok(())
    }

    fn on_rights_changed(&mut self) {
        self.seen.push("rights".into());
    }
}

impl StateHandler for Everything {
    fn snapshot(&mut self) -> Result<Vec<u8>> {
        Ok(to_json(&self.seen)?)
    }

    fn restore(&mut self, state: Vec<u8>, version: &str) -> Result {
        let mut seen: Vec<String> = from_json(&state)?;
        seen.append(&mut self.seen);
        seen.push(format!("from {version}"));
        self.seen = seen;
        Ok(())
    }
}

macula_plugin::export!(Everything: lifecycle, message, call, timer, config, state; manifest = r#"
    name = "everything"
    version = "1.2.3"
    subscribe = ["in.**", "dynamic.*", "out.*"]
    publish = ["out.*"]
    advertise = ["every.*"]
    call = ["math.*"]
    [config]
    mood = "fine"
    [[subscriptions]]
    pattern = "in.**"
    when-full = "block"
    [[procedures]]
    procedure = "every.manifest"
"#);

fn started() -> Host<Everything> {
    Host::start()
}

fn seen(host: &Host<Everything>) -> Vec<&str> {
    host.plugin().seen.iter().map(String::as_str).collect()
}

#[test]
fn start_opens_what_manifest_and_init_ask_for() {
    let host = started();
    assert_eq!(seen(&host), ["init Fresh fine"]);
    assert_eq!(host.subscriptions(), ["in.**", "dynamic.*"]);
    assert_eq!(host.offers(), ["every.manifest", "every.dynamic"]);
    assert_eq!(host.timers(), ["beat"]);
}

#[test]
fn an_init_that_fails_keeps_the_plugin_from_starting() {
    let error = Host::<Everything>::setup().config("fail", "yes").try_start().expect_err("init fails");
    assert_eq!(error, Error::Unavailable("the moon".into()));
    let denied = Host::<Everything>::setup().deny("/mesh/subscribe", "dynamic.**").try_start();
    assert_eq!(denied.expect_err("denied"), Error::Denied("/mesh/subscribe dynamic.*".into()));
}

#[test]
fn messages_reach_the_handler_by_subscription() {
    let mut host = started();
    assert_eq!(host.deliver("dynamic.x", "may"), Disposition::Ack);
    let mut again = testing::message("in.a.b", "wait");
    again.attempt = 2;
    assert_eq!(host.deliver_message(again), Disposition::Retry(Some(Duration::from_secs(2))));
    assert_eq!(seen(&host)[1..], ["dynamic.x 1#1", "true", "in.a.b 2#0"]);
    assert!(matches!(host.deliver("in.a", [0xff]), Disposition::Reject(_)));
}

#[test]
#[should_panic(expected = "the plugin is not subscribed to elsewhere")]
fn a_test_cannot_deliver_what_production_would_not() {
    started().deliver("elsewhere", "x");
}

#[test]
fn what_is_published_is_checked_and_kept() {
    let mut host = started();
    assert_eq!(host.deliver("in.a", "publish"), Disposition::Ack);
    let published = host.take_published();
    assert_eq!((published.len(), published[0].text(), published[0].retain), (1, "x", true));
    assert_eq!(published[0].metadata, [("k".to_owned(), "v".to_owned())]);
    let denied = Disposition::DeadLetter("denied: /mesh/publish elsewhere".into());
    assert_eq!(host.deliver("in.a", "publish elsewhere"), denied);
    assert!(matches!(host.deliver("in.a", "bad meta"), Disposition::Reject(text) if text.contains("[a-z0-9-]")));
    assert!(host.take_published().is_empty());
}

#[test]
fn rights_can_change_while_the_plugin_runs() {
    let mut host = started();
    host.deny("/mesh/publish", "out.a");
    host.deny("/mesh/subscribe", "dynamic.**");
    assert_eq!(host.subscriptions(), ["in.**"]);
    host.deliver("in.a", "may");
    host.allow("/mesh/publish", "**");
    host.deliver("in.a", "may");
    host.deliver("in.a", "publish elsewhere");
    assert_eq!(seen(&host)[1..], ["rights", "rights", "in.a 1#0", "false", "rights", "in.a 1#0", "true", "in.a 1#0"]);
    assert_eq!(host.take_published()[0].topic, "elsewhere");
}

#[test]
fn outgoing_calls_get_the_answers_of_the_test() {
    let mut host = started();
    assert_eq!(host.deliver("in.a", "call"), Disposition::Retry(None), "nobody offers it, so far");
    host.answer("math.add", |request| {
        let numbers: Vec<i64> = request.json().map_err(CallError::BadAnswer)?;
        Ok(numbers.iter().sum::<i64>().to_string().into_bytes())
    });
    assert_eq!(host.deliver("in.a", "call"), Disposition::Ack);
    assert_eq!(seen(&host).last(), Some(&"sum 3"));
    host.answer("math.add", |_| Err(CallError::MaybeRun(Error::Timeout)));
    assert!(matches!(host.deliver("in.a", "call"), Disposition::DeadLetter(_)));
    let called = host.take_called();
    assert_eq!((called.len(), called[0].time_left), (3, Duration::from_secs(1)));
    host.deny("/mesh/call", "math.add");
    assert!(matches!(host.deliver("in.a", "call"), Disposition::DeadLetter(text) if text.contains("/mesh/call")));
}

#[test]
fn calls_are_answered() {
    let mut host = started();
    assert_eq!(host.call("every.dynamic", "2.5"), Ok(b"2.5".to_vec()));
    assert_eq!(host.call("every.dynamic", "two").map_err(|error| error.code), Err("bad-arguments".into()));
    let seen: Result<Vec<String>, HandlerError> = host.call_json("every.manifest", &());
    assert_eq!(seen, Ok(vec!["init Fresh fine".to_owned()]));
}

#[test]
fn time_passes_only_when_the_test_says() {
    let mut host = started();
    host.deliver("in.a", "timer");
    let begin = host.now();
    assert_eq!(host.advance(Duration::from_millis(1_400)), Ok(1));
    assert_eq!(host.advance(Duration::from_millis(600)), Err(Error::Other("once is enough".into())));
    assert_eq!(seen(&host)[2..], ["beat 1000", "once 1500", "beat 2000"]);
    assert_eq!(host.now(), begin + Duration::from_secs(2));
    assert_eq!(host.timers(), ["beat"]);
}

#[test]
fn storage_and_content_keep_what_is_written() {
    let mut host = started();
    assert_eq!(host.deliver("in.a", "store"), Disposition::Ack);
    assert_eq!(host.stored("b", "k").as_deref(), Some(&b"2"[..]));
    let mcid = host.plugin().seen.last().expect("an id").clone();
    assert!(host.is_pinned(&mcid));
    assert_eq!(host.put_content(b"hello world"), mcid, "the same bytes have the same id");
    assert!(host.stored("b", "soon").is_some());
    host.advance(Duration::from_secs(5)).expect("ticks");
    assert_eq!(host.stored("b", "soon"), None);
}

#[test]
fn settings_can_be_changed_and_refused() {
    let mut host = started();
    assert_eq!(host.set_config("mood", "bad"), Err(Error::Other("no bad moods".into())));
    assert_eq!(host.set_config("mood", "great"), Ok(()));
    assert_eq!(seen(&host)[1..], ["changed [\"mood\"]"]);
}

#[test]
fn a_new_version_takes_state_and_subscriptions_over() {
    let mut host = started();
    host.deliver("in.a", "leave");
    assert_eq!(host.subscriptions(), ["in.**", "dynamic.*"], "dynamic.again was left");
    host.swap().expect("swaps");
    assert_eq!(seen(&host), ["init Fresh fine", "in.a 1#0", "init Replacing fine", "from 1.2.3"]);
    assert_eq!(host.subscriptions(), ["in.**", "dynamic.*"]);
    assert_eq!(host.take_logged()[0].message, "shutdown Replaced");
    host.crash().expect("starts again");
    assert_eq!(seen(&host), ["init Restarted fine"]);
    assert_eq!(host.stop(StopReason::Stopped).seen.len(), 1);
}

#[test]
fn a_panic_reaches_the_test() {
    let mut host = started();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| host.deliver("in.a", "panic")));
    assert!(outcome.is_err());
    host.crash().expect("starts again");
    assert_eq!(host.deliver("in.a", "may"), Disposition::Ack);
}

/// Logs in every way, and counts how often a value was computed.
#[derive(Default)]
struct Logger;

impl CallHandler for Logger {
    fn on_call(&mut self, _: Request) -> Result<Vec<u8>> {
        let mut computed = 0;
        let mut value = || {
            computed += 1;
            computed
        };
        let room = "kitchen";
        trace!(value = value(), "trace");
        debug!("debug {}", value());
        info!(room, window = ?[1, 2], "in the {room}");
        warn!(value = value(), room, "two {} {name}", 1, name = "x",);
        error!("plain");
        Ok(vec![computed])
    }
}

macula_plugin::export!(Logger: call; manifest = "name = 'logger'\nadvertise = ['log']\n[[procedures]]\nprocedure = 'log'");

#[test]
fn entries_carry_fields_and_cost_nothing_when_off() {
    let mut host = Host::<Logger>::start();
    assert_eq!(host.call("log", ""), Ok(vec![3]));
    let logged = host.take_logged();
    let texts: Vec<&str> = logged.iter().map(|entry| entry.message.as_str()).collect();
    assert_eq!(texts, ["trace", "debug 2", "in the kitchen", "two 1 x", "plain"]);
    assert_eq!((logged[2].level, logged[2].target.as_str()), (Level::Info, "plugin"));
    let fields = [("room", "kitchen"), ("window", "[1, 2]")];
    assert_eq!(logged[2].fields, fields.map(|(name, value)| (name.to_owned(), value.to_owned())));

    host.set_log_level(Level::Warn);
    assert_eq!(host.call("log", ""), Ok(vec![1]));
    assert_eq!(host.take_logged().len(), 2);
}
