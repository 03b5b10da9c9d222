//! A plugin that does as it is told: each message, call and setting is a line of commands.
//!
//! A message or call with the payload `publish a.b text` publishes, `trap` traps, and so on: see [`command`]. What it
//! sees it reports to the topic in the setting `report`.

use std::cell::{Cell, RefCell};

wit_bindgen::generate!({ path: "../../../../../wit", world: "plugin", generate_all });

use exports::macula::plugin::{
    call_handler, config_handler, lifecycle, lifecycle::HealthStatus, message_handler, message_handler::Disposition,
    state_handler, timer_handler,
};
use macula::plugin::{config, content, identity, kv, log, pubsub, rpc, timers, trace, types};

struct Probe;
export!(Probe);

thread_local! {
    static HANDLED: Cell<u32> = const { Cell::new(0) };
    static HEALTH: RefCell<String> = const { RefCell::new(String::new()) };
    static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static SUBSCRIPTIONS: RefCell<Vec<pubsub::Subscription>> = const { RefCell::new(Vec::new()) };
    static FETCHES: RefCell<Vec<content::Fetch>> = const { RefCell::new(Vec::new()) };
    static OFFERS: RefCell<Vec<rpc::Advertisement>> = const { RefCell::new(Vec::new()) };
}

fn report(text: &str) {
    if let Some(topic) = config::get("report") {
        let _ = pubsub::publish(&topic, text.as_bytes(), None);
    }
}

impl lifecycle::Guest for Probe {
    fn init(reason: lifecycle::StartReason) -> Result<(), types::Error> {
        if config::get("sick").is_some() {
            HEALTH.set("as told".into());
        }
        if let Some(script) = config::get("init") {
            for line in script.lines() {
                match line {
                    "denied" => return Err(types::Error::Denied("as told".into())),
                    "unavailable" => return Err(types::Error::Unavailable("as told".into())),
                    _ => {
                        command(line);
                    }
                }
            }
        }
        report(&format!("init {reason:?}"));
        Ok(())
    }
    fn health() -> HealthStatus {
        let health = HEALTH.with_borrow(String::clone);
        if health.is_empty() { HealthStatus::Healthy } else { HealthStatus::Unhealthy(health) }
    }
    fn shutdown(reason: lifecycle::StopReason, grace_ms: u32) {
        report(&format!("shutdown {reason:?} {grace_ms}"));
        if let Some(line) = config::get("shutdown") {
            command(&line);
        }
    }
}

impl message_handler::Guest for Probe {
    fn on_message(message: types::Message) -> Disposition {
        if config::get("bad").is_some() {
            panic!("as told");
        }
        HANDLED.set(HANDLED.get() + 1);
        let text = String::from_utf8_lossy(&message.payload);
        let (verb, rest) = text.split_once(' ').unwrap_or((&text, ""));
        match verb {
            "forward" => {
                let _ = pubsub::publish(rest, &message.payload, None);
                Disposition::Ack
            }
            "retry" => Disposition::Retry(rest.parse().ok()),
            "retry-once" if message.attempt == 1 => Disposition::Retry(rest.parse().ok()),
            "reject" => Disposition::Reject(rest.into()),
            "dead" => Disposition::DeadLetter(rest.into()),
            "trap-once" if message.attempt > 1 => {
                report(&format!("survived, attempt {}", message.attempt));
                Disposition::Ack
            }
            "trap-once" => panic!("as told"),
            "describe" => {
                report(&format!(
                    "{} {} {} {} {} {} {} {:?}",
                    message.topic,
                    message.content_type,
                    message.publisher,
                    message.seq,
                    message.attempt,
                    message.subscription,
                    message.retained,
                    message.metadata
                ));
                Disposition::Ack
            }
            _ => {
                for line in text.lines() {
                    let answer = command(line);
                    if !answer.is_empty() {
                        report(&answer);
                    }
                }
                Disposition::Ack
            }
        }
    }
}

impl call_handler::Guest for Probe {
    fn on_call(request: types::Request) -> Result<Vec<u8>, types::HandlerError> {
        let text = String::from_utf8_lossy(&request.payload);
        match text.split_once(' ') {
            Some(("fail", code)) => {
                Err(types::HandlerError { code: code.into(), message: "as told".into(), data: vec![7] })
            }
            Some(("huge", size)) => Ok(vec![0; size.parse().unwrap()]),
            _ if text == "time-left" => Ok(request.time_left_ms.to_string().into_bytes()),
            _ => Ok(command(&text).into_bytes()),
        }
    }
}

impl timer_handler::Guest for Probe {
    fn on_timer(tick: timer_handler::Tick) -> Result<(), types::Error> {
        report(&format!("tick {} missed {}", tick.name, tick.missed));
        if let Some(line) = config::get(&format!("on-{}", tick.name)) {
            command(&line);
        }
        Ok(())
    }
}

impl config_handler::Guest for Probe {
    fn on_config_changed(keys: Vec<String>) -> Result<(), types::Error> {
        report(&format!("changed {} on instance {}", keys.join(" "), identity::instance().index));
        match config::get("take").as_deref() {
            Some("trap") => panic!("as told"),
            Some("refuse") => Err(types::Error::Invalid("as told".into())),
            Some("refuse-last") if identity::instance().index > 0 => Err(types::Error::Invalid("as told".into())),
            _ => Ok(()),
        }
    }
    fn on_rights_changed() {
        report("rights changed");
    }
}

impl state_handler::Guest for Probe {
    fn snapshot() -> Result<Vec<u8>, types::Error> {
        match config::get("snapshot").as_deref() {
            Some("trap") => panic!("as told"),
            Some("denied") => Err(types::Error::Denied("as told".into())),
            Some(size) => Ok(vec![1; size.parse().unwrap()]),
            None => Ok(HANDLED.get().to_le_bytes().to_vec()),
        }
    }
    fn restore(state: Vec<u8>, version: String) -> Result<(), types::Error> {
        match config::get("restore").as_deref() {
            Some("trap") => panic!("as told"),
            Some(_) => return Err(types::Error::Denied("as told".into())),
            None => {}
        }
        match <[u8; 4]>::try_from(&state[..]) {
            Ok(handled) => HANDLED.set(u32::from_le_bytes(handled)),
            Err(_) => report(&format!("restored {} bytes", state.len())),
        }
        report(&format!("init restored from {version}"));
        Ok(())
    }
}

#[inline(never)]
fn recurse(depth: u64) -> u64 {
    let here = std::hint::black_box([depth; 16]);
    if depth == u64::MAX { 0 } else { recurse(depth + 1) + here[3] }
}

fn spin_until(deadline: std::time::Instant) {
    while std::time::Instant::now() < deadline {
        std::hint::spin_loop();
    }
}

/// What follows the verb.
fn rest_of(line: &str) -> &str {
    line.split_once(' ').map_or("", |(_, rest)| rest)
}

/// Does one command and says what came of it.
fn command(line: &str) -> String {
    let mut words = line.splitn(3, ' ');
    let verb = words.next().unwrap_or_default();
    let first = words.next().unwrap_or_default();
    let rest = words.next().unwrap_or_default();
    let millis = || std::time::Duration::from_millis(first.parse().unwrap());
    match verb {
        "" | "ack" => String::new(),
        "trap" => panic!("as told"),
        "loop" => loop {
            std::hint::black_box(0);
        },
        "recurse" => recurse(0).to_string(),
        "spin" => {
            spin_until(std::time::Instant::now() + millis());
            "spun".into()
        }
        "sleep" => {
            std::thread::sleep(millis());
            "slept".into()
        }
        "grow" => {
            let mebibytes: usize = first.parse().unwrap();
            for _ in 0..mebibytes {
                let mut piece = Vec::new();
                if piece.try_reserve_exact(1 << 20).is_err() {
                    return "grow refused".into();
                }
                piece.resize(1 << 20, 1);
                KEPT.with_borrow_mut(|kept| kept.push(piece));
            }
            "grown".into()
        }
        "print" => {
            println!("{first} {rest}");
            String::new()
        }
        "log" => {
            log::write(log::Level::Info, "probe", &format!("{first} {rest}"), &[("field".into(), "value".into())]);
            String::new()
        }
        "flood" => {
            let text = "x".repeat(1000);
            for _ in 0..first.parse::<u32>().unwrap() {
                log::write(log::Level::Info, "flood", &text, &[]);
            }
            "flooded".into()
        }
        "publish" => format!("{:?}", pubsub::publish(first, rest.as_bytes(), None)),
        "publish-acked" => {
            let options = pubsub::PublishOptions {
                delivery: pubsub::Delivery::Acked,
                retain: false,
                content_type: "text/plain".into(),
                metadata: vec![("unit".into(), "celsius".into())],
            };
            format!("{:?}", pubsub::publish(first, rest.as_bytes(), Some(&options)))
        }
        "publish-meta" => {
            let (name, value) = rest.split_once(' ').unwrap_or((rest, ""));
            let options = pubsub::PublishOptions {
                delivery: pubsub::Delivery::Ordered,
                retain: false,
                content_type: String::new(),
                metadata: vec![(name.into(), value.into())],
            };
            format!("{:?}", pubsub::publish(first, b"", Some(&options)))
        }
        "publish-size" => format!("{:?}", pubsub::publish(first, &vec![0; rest.parse().unwrap()], None)),
        "publish-many" => {
            let count: u32 = rest.parse().unwrap();
            for index in 0..count {
                let _ = pubsub::publish(first, &index.to_le_bytes(), None);
            }
            format!("published {count}")
        }
        "subscribe" => match pubsub::subscribe(first, None) {
            Ok(subscription) => {
                let id = subscription.id();
                SUBSCRIPTIONS.with_borrow_mut(|all| all.push(subscription));
                format!("subscribed {id}")
            }
            Err(error) => format!("{error:?}"),
        },
        "subscribe-drop" => match pubsub::subscribe(first, None) {
            Ok(_) => "subscribed".into(),
            Err(error) => format!("{error:?}"),
        },
        "unsubscribe" => SUBSCRIPTIONS.with_borrow(|all| {
            all.iter().filter(|one| one.pattern() == first).for_each(pubsub::Subscription::unsubscribe);
            "unsubscribed".into()
        }),
        "stats" => SUBSCRIPTIONS.with_borrow(|all| {
            all.iter().map(|one| format!("{} {}", one.pattern(), one.stats().delivered)).collect::<Vec<_>>().join(",")
        }),
        "retained" => match pubsub::retained(first) {
            Ok(found) => format!("{:?}", found.map(|message| message.payload.len())),
            Err(error) => format!("{error:?}"),
        },
        "call" => match rpc::call(first, rest.as_bytes(), None) {
            Ok(answer) => format!("answer {}", String::from_utf8_lossy(&answer)),
            Err(error) => format!("{error:?}"),
        },
        "advertise" => match rpc::advertise(first, None) {
            Ok(offer) => {
                OFFERS.with_borrow_mut(|all| all.push(offer));
                "advertised".into()
            }
            Err(error) => format!("{error:?}"),
        },
        "withdraw" => OFFERS.with_borrow(|all| {
            all.iter().filter(|one| one.procedure() == first).for_each(rpc::Advertisement::withdraw);
            "withdrawn".into()
        }),
        "after" => format!("{:?}", timers::after(first, rest.parse().unwrap())),
        "every" => format!("{:?}", timers::every(first, rest.parse().unwrap())),
        "cancel" => format!("{}", timers::cancel(first)),
        "health" => {
            HEALTH.set(if first == "good" { String::new() } else { first.into() });
            String::new()
        }
        "who" => format!(
            "{} {} {} {} {} {}/{}",
            identity::plugin_name(),
            identity::plugin_version(),
            identity::component(),
            identity::node(),
            identity::realm(),
            identity::instance().index,
            identity::instance().count,
        ),
        "can" => format!("{}", identity::can(first, rest)),
        "trace" => format!("{:?}", trace::current().is_some()),
        "config" => format!("{:?}", config::get(first)),
        "config-all" => format!("{:?}", config::all()),
        "has" => format!("{:?}", content::has(first)),
        "put" => format!("{:?}", content::put(rest_of(line).as_bytes())),
        "put-size" => format!("{:?}", content::put(&vec![7; first.parse().unwrap()])),
        "create" => match content::create() {
            Ok(writer) => {
                for piece in rest_of(line).split(' ') {
                    if let Err(error) = writer.write(piece.as_bytes()) {
                        return format!("{error:?}");
                    }
                }
                format!("{:?}", content::Writer::finish(writer))
            }
            Err(error) => format!("{error:?}"),
        },
        "write-size" => format!("{:?}", content::create().unwrap().write(&vec![7; first.parse().unwrap()])),
        "writers" => {
            let opened: Vec<_> = (0..first.parse::<u32>().unwrap()).map(|_| content::create()).collect();
            format!("{:?}", opened.iter().filter_map(|one| one.as_ref().err()).next())
        }
        "open" => match content::open(first) {
            Ok(blob) => match blob.read(0, 1 << 20) {
                Ok(bytes) => format!("{} {}", blob.size(), String::from_utf8_lossy(&bytes)),
                Err(error) => format!("{error:?}"),
            },
            Err(error) => format!("{error:?}"),
        },
        "read" => {
            let (offset, len) = rest.split_once(' ').unwrap();
            match content::open(first).unwrap().read(offset.parse().unwrap(), len.parse().unwrap()) {
                Ok(bytes) => format!("read {}", String::from_utf8_lossy(&bytes)),
                Err(error) => format!("{error:?}"),
            }
        }
        "blobs" => {
            let opened: Vec<_> = (0..rest.parse::<u32>().unwrap()).map(|_| content::open(first)).collect();
            format!("{:?}", opened.iter().filter_map(|one| one.as_ref().err()).next())
        }
        "fetch" => match content::fetch_all(first) {
            Ok(fetch) => {
                FETCHES.with_borrow_mut(|all| all.push(fetch));
                "fetching".into()
            }
            Err(error) => format!("{error:?}"),
        },
        "fetch-drop" => format!("{:?}", content::fetch_all(first).map(drop)),
        "fetch-state" => FETCHES.with_borrow(|all| format!("{:?}", all.last().unwrap().state())),
        "fetch-cancel" => FETCHES.with_borrow(|all| {
            all.last().unwrap().cancel();
            String::new()
        }),
        "pin" => format!("{:?}", content::pin(first)),
        "unpin" => format!("{:?}", content::unpin(first)),
        "kv" => format!("{:?}", kv::open(first).err()),
        "enabled" => format!("{}", log::enabled(log::Level::Info)),
        "handled" => format!("handled {}", HANDLED.get()),
        "args" => format!("{} {}", std::env::args().count(), std::env::vars().count()),
        "files" => format!("{}", std::fs::read("/etc/passwd").is_ok()),
        "clock" => format!("{}", std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()),
        _ => format!("unknown command {verb:?}"),
    }
}
