//! Compiles proto/ into Rust, without a system protoc, and keeps the descriptors for reflection.

use std::path::{Path, PathBuf};
use std::{env, error, fs};

const FILES: [&str; 7] = ["core", "permissions", "tuples", "watch", "schema", "delegation", "server"];

fn main() -> Result<(), Box<dyn error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let root = Path::new("proto");
    let files: Vec<PathBuf> = FILES.iter().map(|file| root.join(format!("procura/v1/{file}.proto"))).collect();
    let mut compiler = protox::Compiler::new([root])?;
    // Reflection serves what the services import too; comments become the docs of the generated types.
    compiler.include_imports(true).include_source_info(true).open_files(files)?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    fs::write(out.join("procura_descriptor.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .extern_path(".google.rpc", "::tonic_types::pb")
        .emit_rerun_if_changed(false)
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
