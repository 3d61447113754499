//! Images built from files, for tests: layers, configuration, archives of both kinds.
//!
//! The same input gives the same bytes: times are fixed and nothing is read from the clock.

mod archive;
mod host;
mod layer;

use std::path::PathBuf;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub use archive::{index_archive, tar};
pub use host::{busybox, nginx};
pub use layer::{Compression, Layer};

/// An image to be built.
#[derive(Debug, Clone)]
pub struct ImageBuilder {
    name: String,
    layers: Vec<(Layer, Compression)>,
    config: Value,
    platform: (String, String),
}

impl ImageBuilder {
    /// Starts an image without layers. `name` is its reference, such as `localhost/test/app:1`.
    pub fn new(name: &str) -> Self {
        let arch = if cfg!(target_arch = "aarch64") {
            "arm64"
        } else {
            "amd64"
        };
        Self {
            name: name.to_owned(),
            layers: Vec::new(),
            config: json!({}),
            platform: ("linux".into(), arch.into()),
        }
    }

    /// Gives it another reference.
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    /// Adds a layer on top, compressed by gzip.
    pub fn layer(self, layer: Layer) -> Self {
        self.layer_with(layer, Compression::Gzip)
    }

    /// Adds a layer on top.
    pub fn layer_with(mut self, layer: Layer, compression: Compression) -> Self {
        self.layers.push((layer, compression));
        self
    }

    /// Sets a field of the run configuration by its name in the image specification (`Cmd`, `Env`, `User`, …).
    pub fn set(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.config[field] = value.into();
        self
    }

    /// Sets the words to run.
    pub fn cmd(self, words: &[&str]) -> Self {
        self.set("Cmd", json!(words))
    }

    /// Says that it runs on another architecture.
    pub fn architecture(mut self, architecture: &str) -> Self {
        self.platform.1 = architecture.to_owned();
        self
    }

    /// Builds it.
    ///
    /// # Panics
    /// When a file of the host cannot be read.
    #[track_caller]
    pub fn build(&self) -> Image {
        let mut layers = Vec::new();
        let mut diff_ids = Vec::new();
        for (layer, compression) in &self.layers {
            let tar = layer.bytes();
            diff_ids.push(digest(&tar));
            layers.push(Blob::new(compression.media_type(), compression.compress(&tar)));
        }
        let (os, architecture) = &self.platform;
        let config = json!({
            "created": "2026-01-01T00:00:00Z", "architecture": architecture, "os": os, "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = Blob::new(
            "application/vnd.oci.image.config.v1+json",
            config.to_string().into_bytes(),
        );
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": config.descriptor(), "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
        });
        let manifest = Blob::new(MANIFEST, manifest.to_string().into_bytes());
        Image {
            name: self.name.clone(),
            platform: self.platform.clone(),
            config,
            manifest,
            layers,
        }
    }
}

/// The media type of an image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of an image index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Content with its digest and media type.
#[derive(Debug, Clone)]
pub struct Blob {
    /// `sha256:<hex>`.
    pub digest: String,
    /// What it is.
    pub media_type: String,
    /// The content.
    pub bytes: Vec<u8>,
}

impl Blob {
    /// Wraps content.
    pub fn new(media_type: &str, bytes: Vec<u8>) -> Self {
        Self {
            digest: digest(&bytes),
            media_type: media_type.to_owned(),
            bytes,
        }
    }

    /// The descriptor that names it.
    pub fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len()})
    }

    /// Its path in an OCI layout.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("blobs/sha256").join(self.digest.trim_start_matches("sha256:"))
    }
}

/// A built image.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its reference.
    pub name: String,
    /// Operating system and architecture.
    pub platform: (String, String),
    /// The configuration; its digest is the image's id.
    pub config: Blob,
    /// The manifest.
    pub manifest: Blob,
    /// Layers, lowest first.
    pub layers: Vec<Blob>,
}

impl Image {
    /// `sha256:<hex>` of the configuration.
    pub fn id(&self) -> &str {
        &self.config.digest
    }

    /// Repository and tag of its reference, without the registry.
    pub fn repository_and_tag(&self) -> (String, String) {
        let path = match self.name.split_once('/') {
            Some((host, rest)) if host == "localhost" || host.contains(['.', ':']) => rest,
            _ => &self.name,
        };
        let (repository, tag) = path.rsplit_once(':').unwrap_or((path, "latest"));
        (repository.to_owned(), tag.to_owned())
    }

    /// Every blob: configuration, manifest and layers.
    pub fn blobs(&self) -> impl Iterator<Item = &Blob> {
        [&self.config, &self.manifest].into_iter().chain(&self.layers)
    }
}

/// An index of images for several platforms.
pub fn index(images: &[Image]) -> Blob {
    let entry = |image: &Image| {
        let mut descriptor = image.manifest.descriptor();
        descriptor["platform"] = json!({"os": image.platform.0, "architecture": image.platform.1});
        descriptor
    };
    let index = json!({
        "schemaVersion": 2, "mediaType": INDEX, "manifests": images.iter().map(entry).collect::<Vec<_>>(),
    });
    Blob::new(INDEX, index.to_string().into_bytes())
}

/// `sha256:<hex>` of some bytes.
pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}
