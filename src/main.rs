//! The `sdl` binary.

fn main() {
    // Not by returning: a thread of librdkafka that waits for a silent broker must not keep the process.
    std::process::exit(sdl::cli::main().into())
}
