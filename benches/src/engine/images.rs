//! The images, pushed to the registry once for all.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use knode_testkit::Registry;
use knode_testkit::image::{self, Blob, Image, ImageBuilder, Layer, MANIFEST};
use serde_json::json;

/// Layers of the large image, and files of each.
const LAYERS: usize = 5;
const FILES: usize = 40;

/// References to pull by.
pub struct Images {
    /// busybox.
    pub small: String,
    /// Five layers of many files.
    pub large: String,
    /// Keeps a sandbox's namespaces where an engine needs a process for that.
    pub pause: String,
}

impl Images {
    /// Builds and pushes all; `layer` is how many bytes each layer of the large one has.
    pub fn push(registry: &Registry<'_>, layer: usize) -> anyhow::Result<Self> {
        let small = image::busybox().name("localhost/bench/busybox:1").build();
        Ok(Self {
            small: registry.push(&small),
            large: registry.push(&large(layer)?),
            pause: registry.push(&pause()),
        })
    }
}

/// As upstream's: a program that does nothing, in some hundred bytes.
fn pause() -> Image {
    match program() {
        Some(program) => ImageBuilder::new("localhost/bench/pause:1")
            .layer(Layer::new().file("pause", 0o755, program))
            .cmd(&["/pause"])
            .build(),
        None => image::busybox()
            .name("localhost/bench/pause:1")
            .cmd(&["sleep", "86400"])
            .build(),
    }
}

/// An executable file that waits for ever: ELF header, one segment, `pause()` in a loop.
fn program() -> Option<Vec<u8>> {
    if !cfg!(target_arch = "x86_64") {
        return None;
    }
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    // mov eax, 34; syscall; jmp back
    let code = [0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7];
    let size = HEADERS + code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for word in [BASE + HEADERS, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for word in [0, BASE, BASE, size, size, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    Some(file)
}

/// Built with the machine's own gzip and sha256sum: this program may be compiled without optimization.
fn large(size: usize) -> anyhow::Result<Image> {
    let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
    for number in 0..LAYERS {
        let tar = layer(number, size)?.bytes();
        diff_ids.push(sha256(&tar)?);
        let bytes = through("gzip", &["-1"], &tar)?;
        layers.push(Blob {
            digest: sha256(&bytes)?,
            media_type: "application/vnd.oci.image.layer.v1.tar+gzip".into(),
            bytes,
        });
    }
    let small = image::busybox().name("localhost/bench/large:1").build();
    let (os, architecture) = &small.platform;
    let config = json!({
        "architecture": architecture, "os": os, "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = Blob::new(
        "application/vnd.oci.image.config.v1+json",
        config.to_string().into_bytes(),
    );
    let descriptors: Vec<_> = layers.iter().map(Blob::descriptor).collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config.descriptor(), "layers": descriptors,
    });
    Ok(Image {
        manifest: Blob::new(MANIFEST, manifest.to_string().into_bytes()),
        config,
        layers,
        ..small
    })
}

/// Files of random text, which gzip makes a quarter smaller.
fn layer(number: usize, size: usize) -> anyhow::Result<Layer> {
    let mut random = std::fs::File::open("/dev/urandom").context("open /dev/urandom")?;
    let mut layer = Layer::new().dir(&format!("layer{number}"), 0o755);
    for file in 0..FILES {
        let mut content = vec![0; size / FILES];
        random.read_exact(&mut content).context("read /dev/urandom")?;
        content.iter_mut().for_each(|byte| *byte = (*byte & 0x3f) + 0x20);
        layer = layer.file(&format!("layer{number}/{file}"), 0o644, content);
    }
    Ok(layer)
}

fn sha256(bytes: &[u8]) -> anyhow::Result<String> {
    let said = String::from_utf8(through("sha256sum", &[], bytes)?)?;
    let hex = said.split_whitespace().next().context("sha256sum says nothing")?;
    Ok(format!("sha256:{hex}"))
}

/// What a program makes of some bytes.
fn through(program: &str, arguments: &[&str], bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("start {program}"))?;
    let mut input = child.stdin.take().context("a program without input")?;
    let output = std::thread::scope(|scope| {
        let writing = scope.spawn(move || input.write_all(bytes));
        let output = child.wait_with_output();
        let written = writing
            .join()
            .unwrap_or_else(|_| Err(std::io::Error::other("the writer panicked")));
        output.and_then(|output| written.map(|()| output))
    });
    let output = output.with_context(|| format!("use {program}"))?;
    ensure!(output.status.success(), "{program}: {}", output.status);
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hand_made_program_waits() {
        let Some(program) = program() else { return };
        let scratch = knode_testkit::Scratch::new("pause");
        let path = scratch.join("pause");
        std::fs::write(&path, program).expect("write the program");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("make it executable");
        let mut child = Command::new(&path).spawn().expect("start it");
        let comm = format!("/proc/{}/wchan", child.id());
        knode_testkit::wait_until("it to wait", std::time::Duration::from_secs(5), || {
            let ended = child.try_wait().expect("look at it");
            assert!(ended.is_none(), "it ended: {ended:?}");
            std::fs::read_to_string(&comm).map(drop)
        });
        child.kill().expect("end it");
        child.wait().expect("reap it");
    }
}
