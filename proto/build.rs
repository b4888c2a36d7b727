//! Generates the protobuf types with protox, so that no `protoc` needs installing.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    const FILES: [&str; 2] = ["hunhe/v1/report.proto", "hunhe/v1/control.proto"];
    for file in FILES {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    prost_build::Config::new().compile_fds(descriptors)?;
    Ok(())
}
