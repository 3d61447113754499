//! Images into archives that are OCI layouts and `docker save` archives at once.

mod layer;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use crate::digest::{Digest, Hasher};
use crate::durable::{self, TempPath};
use crate::error::{Error, IoContext, Result};
use crate::store::{ImageRecord, Inner, LayerRecord};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Writes the images that `references` name to a new archive at `path`, whole or not at all. Blocks.
pub(super) fn export(inner: &Arc<Inner>, references: &[String], path: &Path) -> Result<()> {
    let images = chosen(inner, references)?;
    let draft = TempPath::new(path.with_extension("knode-export"));
    let file = File::create(draft.path()).at("create", draft.path())?;
    let mut archive = Archive {
        inner,
        builder: Builder::new(io::BufWriter::with_capacity(1 << 17, file)),
        layers: BTreeMap::new(),
        descriptors: Vec::new(),
        docker: Vec::new(),
    };
    for (image, names) in &images {
        archive.add(image, names)?;
    }
    let file = archive.finish().at("write", draft.path())?;
    file.sync_all().at("sync", draft.path())?;
    std::fs::rename(draft.path(), path).at("rename to", path)?;
    draft.keep();
    durable::sync_dir(
        &path
            .canonicalize()
            .at("find", path)?
            .parent()
            .map(Path::to_owned)
            .unwrap_or_default(),
    )
}

/// An image and the layers of it, kept from removal.
struct Chosen {
    record: ImageRecord,
    layers: Vec<LayerRecord>,
    inner: Arc<Inner>,
}

impl Drop for Chosen {
    fn drop(&mut self) {
        let mut state = self.inner.state();
        for layer in &self.layers {
            state.release(layer.number);
        }
    }
}

/// The images, each once, with the names that it was asked for by.
fn chosen(inner: &Arc<Inner>, references: &[String]) -> Result<Vec<(Chosen, Vec<String>)>> {
    let mut images: Vec<(Chosen, Vec<String>)> = Vec::new();
    for reference in references {
        let mut state = inner.state();
        let found = state.find(reference).cloned();
        let record = found.ok_or_else(|| Error::ImageNotFound(reference.clone()))?;
        let tag = crate::reference::Reference::parse(reference)
            .ok()
            .and_then(|name| name.tagged())
            .filter(|tag| record.image.repo_tags.contains(tag));
        let known = images
            .iter_mut()
            .find(|(image, _)| image.record.image.id == record.image.id);
        if let Some((_, names)) = known {
            names.extend(tag);
            continue;
        }
        let layers: Vec<LayerRecord> = record
            .layers
            .iter()
            .filter_map(|number| state.layers.get(number).cloned())
            .collect();
        for layer in &layers {
            state.lease(layer.number);
        }
        let image = Chosen {
            record,
            layers,
            inner: inner.clone(),
        };
        images.push((image, tag.into_iter().collect()));
    }
    Ok(images)
}

struct Archive<'a, W: Write> {
    inner: &'a Inner,
    builder: Builder<W>,
    /// Layers that are in it, by number.
    layers: BTreeMap<u32, (Digest, u64)>,
    descriptors: Vec<Value>,
    docker: Vec<Value>,
}

impl Archive<'_, io::BufWriter<File>> {
    fn finish(mut self) -> io::Result<File> {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": self.descriptors});
        let docker = Value::from(std::mem::take(&mut self.docker));
        self.file("index.json", index.to_string().as_bytes())?;
        self.file("manifest.json", docker.to_string().as_bytes())?;
        self.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        self.builder
            .into_inner()?
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
    }
}

impl<W: Write> Archive<'_, W> {
    fn add(&mut self, image: &Chosen, names: &[String]) -> Result<()> {
        let mut layers = Vec::new();
        for layer in &image.layers {
            layers.push(self.layer(layer)?);
        }
        let blob = self.inner.layout.blob(&image.record.image.id);
        let mut config: Value = durable::read_json(&blob)?;
        let diff_ids: Vec<&str> = layers.iter().map(|(digest, _)| digest.as_str()).collect();
        config["rootfs"] = json!({"type": "layers", "diff_ids": diff_ids});
        let platform = json!({"os": config["os"], "architecture": config["architecture"]});
        let config = self.blob(config.to_string().as_bytes())?;
        let entry =
            |(digest, size): &(Digest, u64)| json!({"mediaType": LAYER, "digest": digest, "size": size});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": config.0, "size": config.1},
            "layers": layers.iter().map(entry).collect::<Vec<_>>(),
        });
        let manifest = self.blob(manifest.to_string().as_bytes())?;
        let descriptor = json!({
            "mediaType": MANIFEST, "digest": manifest.0, "size": manifest.1, "platform": platform,
        });
        if names.is_empty() {
            self.descriptors.push(descriptor.clone());
        }
        for name in names {
            let mut named = descriptor.clone();
            named["annotations"] = json!({"io.containerd.image.name": name});
            self.descriptors.push(named);
        }
        let member = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
        self.docker.push(json!({
            "Config": member(&config.0),
            "RepoTags": names,
            "Layers": layers.iter().map(|(digest, _)| member(digest)).collect::<Vec<_>>(),
        }));
        Ok(())
    }

    /// Puts a layer in, once, and answers its digest and size.
    fn layer(&mut self, layer: &LayerRecord) -> Result<(Digest, u64)> {
        if let Some(known) = self.layers.get(&layer.number) {
            return Ok(known.clone());
        }
        let draft = self.inner.temporary();
        let tree = self.inner.layout.tree(layer.number);
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(draft.path())
            .at("create", draft.path())?;
        let mut writer = HashingWriter {
            inner: io::BufWriter::with_capacity(1 << 17, file),
            hasher: Hasher::default(),
            length: 0,
        };
        layer::write(&tree, layer.opaque, &mut writer).at("archive", &tree)?;
        let (digest, length) = (writer.hasher.finish(), writer.length);
        let file = writer.inner.into_inner().map_err(io::IntoInnerError::into_error);
        let mut file = file.at("write", draft.path())?;
        file.seek(SeekFrom::Start(0)).at("read", draft.path())?;
        self.member(&format!("blobs/sha256/{}", digest.hex()), length, file)
            .at("write", draft.path())?;
        self.layers.insert(layer.number, (digest.clone(), length));
        Ok((digest, length))
    }

    fn blob(&mut self, bytes: &[u8]) -> Result<(Digest, u64)> {
        let digest = Digest::of(bytes);
        let name = format!("blobs/sha256/{}", digest.hex());
        self.file(&name, bytes).at("write", &name)?;
        Ok((digest, bytes.len() as u64))
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.member(name, bytes.len() as u64, bytes)
    }

    fn member(&mut self, name: &str, size: u64, content: impl Read) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(size);
        self.builder.append_data(&mut header, name, content)
    }
}

/// Passes bytes on and hashes them.
struct HashingWriter<W> {
    inner: W,
    hasher: Hasher,
    length: u64,
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
