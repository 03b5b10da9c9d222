//! Tells the program when it was built: a clock that says an earlier time cannot be right.

use std::{
    env,
    time::{SystemTime, UNIX_EPOCH},
};

fn main() {
    // Reproducible builds say when they want to have been made.
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo::rerun-if-changed=Cargo.toml");
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let built = env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok()).unwrap_or_else(now);
    println!("cargo::rustc-env=MACULA_BUILT={built}");
}
