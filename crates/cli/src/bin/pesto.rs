//! The client of the configuration socket.

use static_alloc::Bump;

/// All the memory it will ever have. What is not touched costs nothing, and nothing is given back; a
/// conversation with a server takes a few hundred KiB at most.
#[global_allocator]
static MEMORY: Bump<[u8; 32 << 20]> = Bump::uninit();

fn main() -> ! {
    cli::pesto::main()
}
