//! A server for an example in the documentation, which is a test as well.

use std::time::Duration;

use crate::server::Setup;

/// Examples take milliseconds; an example that hangs must not hang the tests.
const DEADLINE: Duration = Duration::from_secs(120);

/// Runs an example against a fresh server, whose address it is given.
///
/// # Panics
///
/// If the example fails, or takes longer than two minutes.
pub fn example<E: Into<anyhow::Error>>(example: impl AsyncFnOnce(String) -> Result<(), E>) {
    let server = Setup::new().start().expect("the server starts");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let result =
        runtime.block_on(async { tokio::time::timeout(DEADLINE, example(server.address().to_string())).await });
    if let Err(error) = result.expect("the example takes too long").map_err(Into::into) {
        panic!("{error:#}");
    }
}
