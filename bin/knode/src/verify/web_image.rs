//! The image that the binary carries, so that a cluster can be checked with no registry in reach.

use std::path::Path;

use anyhow::Context;
use knode_images::ImageStore;
use serde_json::{Value, json};

/// What the image is called.
pub const REFERENCE: &str = concat!("localhost/knode/web:", env!("CARGO_PKG_VERSION"));
/// What its page says.
pub const GREETING: &str = "Welcome to knode!";

/// The program that the build script compiled.
const PROGRAM: &[u8] = include_bytes!(env!("KNODE_WEB"));
/// Changes with the program. Compared instead of the program itself, which then need not be read at every start.
const FINGERPRINT: &str = env!("KNODE_WEB_FINGERPRINT");
const LABEL: &str = "io.knode.web.fingerprint";
const BLOCK: usize = 512;

/// Brings the image into the store, unless this very one is there, and keeps it from garbage collection; the image of
/// another version is left to that. `directory` takes a temporary file.
///
/// # Errors
/// When the file cannot be written or the store refuses.
pub async fn ensure(store: &ImageStore, directory: &Path) -> anyhow::Result<()> {
    let known = store.status(REFERENCE);
    let current = |image: knode_images::Image| {
        image
            .config
            .labels
            .get(LABEL)
            .is_some_and(|label| label == FINGERPRINT)
    };
    if !known.is_some_and(current) {
        import(store, directory).await?;
    }
    pin(store).map_err(|error| anyhow::anyhow!(error.chain()))
}

async fn import(store: &ImageStore, directory: &Path) -> anyhow::Result<()> {
    let path = directory.join(format!(".knode-web-{}.tar", std::process::id()));
    tokio::fs::write(&path, archive())
        .await
        .with_context(|| format!("write {}", path.display()))?;
    let imported = store.import_archive(&path).await;
    tokio::fs::remove_file(&path)
        .await
        .with_context(|| format!("remove {}", path.display()))?;
    imported
        .map_err(|error| anyhow::anyhow!(error.chain()))
        .context("import the image that the binary carries")?;
    Ok(())
}

fn pin(store: &ImageStore) -> knode_images::Result<()> {
    let ours = store.list().into_iter();
    for image in ours.filter(|image| image.config.labels.contains_key(LABEL)) {
        let current = image.repo_tags.iter().any(|tag| tag == REFERENCE);
        store.set_pinned(image.id.as_str(), current)?;
    }
    Ok(())
}

/// The image as an archive of the `docker save` kind. The same binary gives the same bytes.
pub fn archive() -> Vec<u8> {
    let layer = finished(member("web", 0o755, PROGRAM));
    let diff_id = knode_images::Digest::of(&layer);
    let config = configuration(diff_id.as_str()).to_string().into_bytes();
    let name = format!("{}.json", knode_images::Digest::of(&config).hex());
    let manifest = json!([{"Config": name, "RepoTags": [REFERENCE], "Layers": ["layer.tar"]}]).to_string();
    let members = [
        member(&name, 0o644, &config),
        member("layer.tar", 0o644, &layer),
        member("manifest.json", 0o644, manifest.as_bytes()),
    ];
    finished(members.concat())
}

fn configuration(diff_id: &str) -> Value {
    let architecture = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    json!({
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Entrypoint": ["/web"],
            "ExposedPorts": {"80/tcp": {}},
            "StopSignal": "SIGKILL",
            "Labels": {LABEL: FINGERPRINT},
        },
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    })
}

/// One regular file of root's in the ustar format, with the time 0. `name` has at most 99 bytes.
fn member(name: &str, mode: u32, content: &[u8]) -> Vec<u8> {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, format!("{mode:07o}\0{:07o}\0{:07o}\0", 0, 0).as_bytes());
    put(124, format!("{:011o}\0{:011o}\0", content.len(), 0).as_bytes());
    put(148, b"        0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut bytes = header.to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

/// Members with the end of the archive.
fn finished(mut members: Vec<u8>) -> Vec<u8> {
    members.resize(members.len() + 2 * BLOCK, 0);
    members
}

#[cfg(test)]
mod tests {
    use super::*;
    use knode_images::{Registries, StoreConfig};

    #[tokio::test]
    async fn the_image_comes_into_the_store_once() {
        let scratch = std::env::temp_dir().join(format!("knode-web-image-{}", std::process::id()));
        std::fs::create_dir_all(&scratch).unwrap();
        let config = StoreConfig {
            root: scratch.join("store"),
            registries: Registries::default(),
        };
        let store = ImageStore::open(config).unwrap();
        ensure(&store, &scratch).await.unwrap();
        let image = store.status(REFERENCE).unwrap();
        assert!(image.pinned);
        assert_eq!(
            (image.config.entrypoint.as_slice(), image.repo_tags.len()),
            (&["/web".to_owned()][..], 1)
        );
        let program = store.root().join("l/1/web");
        assert_eq!(std::fs::read(&program).unwrap(), PROGRAM);
        let before = std::fs::metadata(store.root().join("images"))
            .unwrap()
            .modified()
            .unwrap();
        ensure(&store, &scratch).await.unwrap();
        assert_eq!(
            std::fs::metadata(store.root().join("images"))
                .unwrap()
                .modified()
                .unwrap(),
            before
        );
        assert_eq!(archive(), archive());
        std::fs::remove_dir_all(&scratch).unwrap();
    }

    #[test]
    fn the_program_serves_its_page_and_fetches_it() {
        use std::io::{BufRead, BufReader};
        let program = env!("KNODE_WEB");
        let mut server = std::process::Command::new(program)
            .env("PORT", "0")
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let port: u16 = first.rsplit(' ').next().unwrap().parse().unwrap();
        let get = |path: &str| {
            let url = format!("http://127.0.0.1:{port}{path}");
            std::process::Command::new(program)
                .args(["get", &url])
                .output()
                .unwrap()
        };
        let (page, missing) = (get("/"), get("/missing"));
        server.kill().unwrap();
        server.wait().unwrap();
        let text = String::from_utf8(page.stdout).unwrap();
        assert!(
            page.status.success() && text.contains(GREETING) && text.contains("client: 127.0.0.1"),
            "{text}"
        );
        assert_eq!(missing.status.code(), Some(1));
        assert!(
            String::from_utf8(missing.stderr)
                .unwrap()
                .contains("404 Not Found")
        );
    }
}
