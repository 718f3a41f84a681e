//! Arguments in, exit code out; the command line comes last.

fn main() {}
