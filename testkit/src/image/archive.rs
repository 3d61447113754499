//! Images as archives.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::{Blob, Compression, INDEX, Image};

impl Image {
    /// The image as an OCI layout in a tar.
    pub fn oci_archive(&self) -> Vec<u8> {
        let mut entry = self.manifest.descriptor();
        entry["annotations"] =
            json!({"io.containerd.image.name": self.name, "org.opencontainers.image.ref.name": self.name});
        layout(self.blobs(), &json!([entry]))
    }

    /// The image as `docker save` wrote it before version 25.
    pub fn docker_archive(&self) -> Vec<u8> {
        let mut files = Vec::new();
        let config = format!("{}.json", self.config.digest.trim_start_matches("sha256:"));
        let mut layers = Vec::new();
        for (number, layer) in self.layers.iter().enumerate() {
            let name = format!("{number:064x}/layer.tar");
            files.push((name.clone(), layer.bytes.clone()));
            layers.push(name);
        }
        let manifest = json!([{"Config": config, "RepoTags": [self.name], "Layers": layers}]);
        files.push((config, self.config.bytes.clone()));
        files.push(("manifest.json".to_owned(), manifest.to_string().into_bytes()));
        tar(&files)
    }

    /// Writes the OCI archive, compressed as the file's name ends (`.tar`, `.tar.gz`, `.tar.zst`).
    ///
    /// # Panics
    /// When it cannot be written.
    #[track_caller]
    pub fn write_oci(&self, path: &Path) {
        write(path, &self.oci_archive());
    }

    /// Writes the docker archive, compressed as the file's name ends.
    ///
    /// # Panics
    /// When it cannot be written.
    #[track_caller]
    pub fn write_docker(&self, path: &Path) {
        write(path, &self.docker_archive());
    }
}

/// An OCI layout of several images behind one index, under one name.
pub fn index_archive(name: &str, images: &[Image]) -> Vec<u8> {
    let index = super::index(images);
    let mut entry = index.descriptor();
    entry["annotations"] = json!({"io.containerd.image.name": name});
    let blobs: Vec<&Blob> = images.iter().flat_map(Image::blobs).chain([&index]).collect();
    layout(blobs.into_iter(), &json!([entry]))
}

fn layout<'a>(blobs: impl Iterator<Item = &'a Blob>, manifests: &serde_json::Value) -> Vec<u8> {
    let mut files: Vec<(String, Vec<u8>)> = blobs
        .map(|blob| (blob.path().display().to_string(), blob.bytes.clone()))
        .collect();
    files.sort();
    files.dedup();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    files.push(("index.json".to_owned(), index.to_string().into_bytes()));
    files.push((
        "oci-layout".to_owned(),
        br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
    ));
    tar(&files)
}

/// A tar of plain files.
pub fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let start = super::Layer::new();
    files
        .iter()
        .fold(start, |layer, (name, content)| {
            layer.file(name, 0o644, content.clone())
        })
        .bytes()
}

#[track_caller]
fn write(path: &Path, tar: &[u8]) {
    let compression = match path.extension().and_then(|ending| ending.to_str()) {
        Some("gz" | "tgz") => Compression::Gzip,
        Some("zst") => Compression::Zstd,
        _ => Compression::None,
    };
    let bytes = compression.compress(tar);
    fs::write(path, bytes).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}
