//! Arguments in, exit code out. The only place besides the command line that reads the environment.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use sallyport::cli::{self, Given};
use sallyport::isolate;
use sallyport::telemetry::{Rng, SystemClock};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if let Some(code) = isolate::child(&arguments) {
        return ExitCode::from(code);
    }
    let env: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let given = Given {
        arguments,
        env,
        clock: Arc::new(SystemClock),
        rng: Rng::system(),
    };
    ExitCode::from(cli::run(&given).code())
}
