//! The program, with its allocator.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Every build has the same allocator: the image is a static musl program, and musl's allocator takes one lock for all
/// threads.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    doorward::main()
}
