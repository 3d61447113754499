//! How quickly images are unpacked and pulled: five layers by each compression out of an archive, and from Debian's
//! docker-registry in a namespace of its own. `KNODE_BENCH_MB` sets the size of all layers together (200 without).

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use knode_images::{Auth, ImageStore, Registries, StoreConfig};
use knode_testkit::image::{Compression, Image, ImageBuilder, Layer};
use knode_testkit::{Host, Registry, Scratch, require_root};

const LAYERS: usize = 5;
const FILE: usize = 256 << 10;

/// Content that compresses about as programs do: half of it repeats.
fn content(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(FILE);
    while bytes.len() < FILE {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_be_bytes());
        bytes.extend([seed as u8; 8]);
    }
    bytes
}

fn image(megabytes: usize, compression: Compression) -> Image {
    let files = (megabytes << 20) / LAYERS / FILE;
    let layers = (0..LAYERS).map(|layer| {
        (0..files.max(1)).fold(Layer::new().dir("d", 0o755), |built, file| {
            let name = format!("d/{layer}-{file}");
            built.file(&name, 0o644, content((layer * files + file) as u64))
        })
    });
    layers
        .fold(ImageBuilder::new("localhost/bench:1"), |image, layer| {
            image.layer_with(layer, compression)
        })
        .build()
}

fn store(scratch: &Scratch) -> ImageStore {
    let config = StoreConfig {
        root: scratch.join("store"),
        registries: Registries::default(),
    };
    ImageStore::open(config).unwrap()
}

fn report(what: &str, megabytes: usize, took: Duration) {
    let rate = megabytes as f64 / took.as_secs_f64();
    println!(
        "{what:<16} {megabytes:>5} MB {:>8.0} ms {rate:>7.0} MB/s",
        took.as_secs_f64() * 1000.0
    );
}

fn main() {
    require_root();
    let megabytes = std::env::var("KNODE_BENCH_MB").map_or(200, |text| text.parse().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (name, compression) in [
        ("import plain", Compression::None),
        ("import gzip", Compression::Gzip),
        ("import zstd", Compression::Zstd),
    ] {
        let scratch = Scratch::new("bench");
        let archive = scratch.join("image.tar");
        image(megabytes, compression).write_oci(&archive);
        let store = store(&scratch);
        let began = Instant::now();
        runtime.block_on(store.import_archive(&archive)).unwrap();
        report(name, megabytes, began.elapsed());
    }
    let host = Host::new("bench");
    let registry = Registry::start(&host);
    let reference = registry.push(&image(megabytes, Compression::Gzip));
    let scratch = Scratch::new("bench");
    let store = store(&scratch);
    let took = host.block_on(async || {
        let began = Instant::now();
        store.pull(&reference, &Auth::Anonymous).await.unwrap();
        began.elapsed()
    });
    report("pull gzip", megabytes, took);
}
