//! The helper that sets repair mode.

fn main() -> ! {
    cli::repair::main()
}
