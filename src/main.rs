//! The `sdl` binary.

use std::io::Write as _;

fn main() {
    let code = sdl::cli::main();
    // Stdout is line-buffered; the rest is lost if it is closed.
    let _ = std::io::stdout().flush();
    // Not by returning: a thread of librdkafka that waits for a silent broker must not keep the process.
    sdl::connectors::kafka::end_process(code)
}
