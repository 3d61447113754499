//! Registries as they should be, and as they should not: a server of the test's own on a real socket.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use knode_images::{Auth, Image, PullEvent};
use knode_testkit::Host;
use knode_testkit::image::{Blob, Compression, INDEX, Image as Built, ImageBuilder, Layer, MANIFEST};
use serde_json::json;
use support::{Asked, Fixture, Reply, Server, answer, honest};

/// An image whose second layer does not compress.
fn image() -> Built {
    let mut noise = Vec::with_capacity(3 << 20);
    let mut state = 1_u64;
    while noise.len() < 3 << 20 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        noise.extend(state.to_be_bytes());
    }
    ImageBuilder::new("localhost/app:1")
        .layer(Layer::new().file("small", 0o644, "small"))
        .layer_with(Layer::new().file("noise", 0o644, noise), Compression::None)
        .build()
}

fn pull_with(host: &Host, fixture: &Fixture, reference: &str, auth: &Auth) -> Result<Image, String> {
    let pulled = host.block_on(async || fixture.store.pull(reference, auth).await);
    pulled.map_err(|error| error.chain())
}

fn pull(host: &Host, fixture: &Fixture, reference: &str) -> Result<Image, String> {
    pull_with(host, fixture, reference, &Auth::Anonymous)
}

fn is_blob(asked: &Asked, blob: &Blob) -> bool {
    asked.path.ends_with(&format!("/blobs/{}", blob.digest))
}

/// The secret of `basic`, as it looks in a header.
const SECRET: &str = "Basic bWU6c2VjcmV0";

fn basic() -> Auth {
    Auth::Basic {
        username: "me".into(),
        password: "secret".into(),
    }
}

#[test]
fn a_transfer_that_breaks_off_goes_on_where_it_did() {
    let host = Host::new("resume");
    let built = image();
    let layer = built.layers[1].clone();
    for by_range in [true, false] {
        let (served, broken) = (built.clone(), layer.clone());
        let server = Server::start(&host, move |asked| {
            let offset = asked.offset();
            match is_blob(asked, &broken) && offset < 2_500_000 {
                true if by_range => {
                    let rest = &broken.bytes[offset..];
                    match offset {
                        0 => Reply::Cut(rest.len(), rest[..1_200_000].to_vec()),
                        _ => honest(&served, asked),
                    }
                }
                // Without ranges it begins anew each time and gets further: the known part is left out.
                true if asked.header("range").is_some() => Reply::ok(broken.bytes.clone()),
                true => Reply::Cut(broken.bytes.len(), broken.bytes[..700_000].to_vec()),
                false => honest(&served, asked),
            }
        });
        let fixture = Fixture::new();
        let mut events = fixture.store.pulls().subscribe();
        let pulled = pull(&host, &fixture, &server.reference("app:1")).unwrap();
        assert_eq!(pulled.id.as_str(), built.id());
        let offsets: Vec<usize> = server
            .asked()
            .iter()
            .filter(|asked| is_blob(asked, &layer))
            .map(Asked::offset)
            .collect();
        assert_eq!(offsets, [0, if by_range { 1_200_000 } else { 700_000 }]);
        let told: Vec<PullEvent> = std::iter::from_fn(|| events.try_recv().ok()).collect();
        let retried = told.iter().any(
            |event| matches!(event, PullEvent::Retried { reason, .. } if reason.contains("end of file") || reason.contains("closed")),
        );
        assert!(retried, "{told:?}");
        let totals = fixture.store.pulls().totals();
        assert_eq!((totals.succeeded, totals.failed, totals.retries), (1, 0, 1));
        let size: usize = built.layers.iter().map(|layer| layer.bytes.len()).sum();
        assert_eq!(totals.bytes, size as u64);
    }
}

#[test]
fn a_registry_that_stalls_or_drips_is_given_up() {
    let host = Host::new("stall");
    let built = image();
    let layer = built.layers[1].clone();
    for slow in [
        Reply::Stall(layer.bytes.len(), layer.bytes[..1000].to_vec()),
        Reply::Drip(layer.bytes.len(), Duration::from_millis(20)),
    ] {
        let (served, slowed) = (built.clone(), layer.clone());
        let server = Server::start(&host, move |asked| match is_blob(asked, &slowed) {
            true => slow.clone(),
            false => honest(&served, asked),
        });
        let fixture = Fixture::with(|registries| registries.timeouts.stall = Duration::from_millis(300));
        let began = Instant::now();
        let told = pull(&host, &fixture, &server.reference("app:1")).unwrap_err();
        assert!(
            told.contains(&format!("failed to copy {}", layer.digest)),
            "{told}"
        );
        assert!(began.elapsed() < Duration::from_secs(20));
        fixture.assert_empty();
        assert_eq!(fixture.store.pulls().totals().failed, 1);
    }
    // Nothing comes at all.
    let server = Server::start(&host, |_| Reply::Stall(10, Vec::new()));
    let fixture = Fixture::with(|registries| {
        registries.timeouts.answer = Duration::from_millis(200);
        registries.timeouts.stall = Duration::from_millis(200);
    });
    assert!(pull(&host, &fixture, &server.reference("app:1")).is_err());
    fixture.assert_empty();
}

#[test]
fn passing_failures_are_waited_for_and_others_not() {
    let host = Host::new("busy");
    let built = image();
    for (status, passes) in [(503, true), (429, true), (500, true), (403, false), (400, false)] {
        let (served, count) = (built.clone(), AtomicUsize::new(0));
        let server = Server::start(&host, move |asked| {
            let gets = asked.method == "GET" && asked.path.contains("/manifests/");
            match gets && count.fetch_add(1, Ordering::Relaxed) == 0 {
                true => Reply::status(status).with("retry-after", "0"),
                false => honest(&served, asked),
            }
        });
        let fixture = Fixture::new();
        let pulled = pull(&host, &fixture, &server.reference("app:1"));
        assert_eq!(pulled.is_ok(), passes, "{status}: {pulled:?}");
    }
}

#[test]
fn redirects_are_followed_and_never_with_credentials() {
    let host = Host::new("redirect");
    let built = image();
    let served = built.clone();
    let elsewhere = Server::start_at(&host, "127.0.0.2", move |asked| honest(&served, asked));
    let (served, other) = (built.clone(), elsewhere.address);
    let server = Server::start(&host, move |asked| {
        if asked.header("authorization") != Some(SECRET) {
            return Reply::status(401).with("www-authenticate", "Basic realm=\"test\"");
        }
        match asked.path.contains("/blobs/") {
            true => Reply::to(format!("http://{other}{}?signature=1", asked.path)),
            false => honest(&served, asked),
        }
    });
    let certs = knode_testkit::Scratch::new("certs");
    let dir = certs.join(server.address.to_string());
    std::fs::create_dir(&dir).unwrap();
    let text = "[header]\nx-inner = \"secret\"\n";
    std::fs::write(dir.join("hosts.toml"), text).unwrap();
    let fixture = Fixture::with(|registries| registries.certs_dir = Some(certs.path().to_owned()));
    let pulled = pull_with(&host, &fixture, &server.reference("app:1"), &basic()).unwrap();
    assert_eq!(pulled.id.as_str(), built.id());
    let seen = elsewhere.asked();
    assert_eq!(seen.len(), 3);
    for asked in &seen {
        assert!(
            asked.header("authorization").is_none() && asked.header("x-inner").is_none(),
            "{asked:?}"
        );
    }
    assert!(
        server
            .asked()
            .iter()
            .all(|asked| asked.header("x-inner") == Some("secret"))
    );
}

#[test]
fn redirects_that_lead_nowhere_are_not_followed() {
    let host = Host::new("redirect");
    for (location, why) in [
        ("/v2/app/blobs/again", "there were ten before it"),
        ("file:///etc/shadow", "is not followed"),
        ("http://user:password@127.0.0.1/", "credentials in it"),
        ("", "no URL"),
        ("http://127.0.0.1:1/", "refused"),
    ] {
        let built = image();
        let server = Server::start(&host, move |asked| match asked.path.contains("/blobs/") {
            true => Reply::to(location),
            false => honest(&built, asked),
        });
        let fixture = Fixture::new();
        let told = pull(&host, &fixture, &server.reference("app:1")).unwrap_err();
        assert!(told.contains(why), "{location}: {told}");
        assert!(!told.contains("password"), "{told}");
        fixture.assert_empty();
    }
}

#[test]
fn another_host_that_wants_credentials_gets_none() {
    let host = Host::new("redirect");
    let elsewhere = Server::start_at(&host, "127.0.0.2", |_| {
        Reply::status(401).with("www-authenticate", "Basic realm=\"give\"")
    });
    let (built, other) = (image(), elsewhere.address);
    let server = Server::start(&host, move |asked| {
        if asked.header("authorization") != Some(SECRET) {
            return Reply::status(401).with("www-authenticate", "Basic realm=\"test\"");
        }
        match asked.path.contains("/blobs/") {
            true => Reply::to(format!("http://{other}/x")),
            false => honest(&built, asked),
        }
    });
    let fixture = Fixture::new();
    let told = pull_with(&host, &fixture, &server.reference("app:1"), &basic()).unwrap_err();
    assert!(told.contains("another host"), "{told}");
    assert!(
        elsewhere
            .asked()
            .iter()
            .all(|asked| asked.header("authorization").is_none())
    );
}

#[test]
fn tokens_are_fetched_for_what_is_pulled_and_again_when_they_end() {
    let host = Host::new("token");
    let tokens = Server::start_at(&host, "127.0.0.2", {
        let count = AtomicUsize::new(0);
        move |asked| match asked.header("authorization") {
            Some(SECRET) => {
                let number = count.fetch_add(1, Ordering::Relaxed);
                Reply::ok(json!({"token": format!("t{number}")}).to_string())
            }
            _ => Reply::status(401),
        }
    });
    let (built, realm) = (image(), tokens.address);
    let (served, uses) = (built.clone(), AtomicUsize::new(0));
    let server = Server::start(&host, move |asked| {
        // The first token is good for three requests.
        let used = uses.fetch_add(1, Ordering::Relaxed);
        let good = match asked.header("authorization") {
            Some("Bearer t0") => used < 4,
            Some(other) => other.starts_with("Bearer t"),
            None => false,
        };
        let challenge = format!("Bearer realm=\"http://{realm}/token\",service=\"test\"");
        match good {
            true => honest(&served, asked),
            false => Reply::status(401).with("www-authenticate", challenge),
        }
    });
    let fixture = Fixture::new();
    let reference = server.reference("team/app:1");
    let told = pull(&host, &fixture, &reference).unwrap_err();
    assert!(told.contains("authorization failed"), "{told}");
    let pulled = pull_with(&host, &fixture, &reference, &basic()).unwrap();
    assert_eq!(pulled.id.as_str(), built.id());
    let asked = tokens.asked();
    let good = "/token?service=test&scope=repository%3Ateam%2Fapp%3Apull";
    assert!(
        asked.iter().all(|asked| asked.path == good) && asked.len() >= 2,
        "{asked:?}"
    );
    assert!(
        server
            .asked()
            .iter()
            .all(|asked| asked.header("authorization") != Some(SECRET))
    );
}

#[test]
fn identity_tokens_are_exchanged() {
    let host = Host::new("token");
    let tokens = Server::start_at(&host, "127.0.0.2", |asked| {
        match asked.method == "POST" && asked.body.contains("refresh_token=r%2F1") {
            true => Reply::ok(json!({"access_token": "access"}).to_string()),
            false => Reply::status(400),
        }
    });
    let (built, realm) = (image(), tokens.address);
    let server = Server::start(&host, move |asked| match asked.header("authorization") {
        Some("Bearer access") => honest(&built, asked),
        _ => Reply::status(401).with("www-authenticate", format!("Bearer realm=\"http://{realm}/\"")),
    });
    let fixture = Fixture::new();
    let identity = Auth::Identity("r/1".into());
    pull_with(&host, &fixture, &server.reference("app:1"), &identity).unwrap();
    let direct = Auth::Bearer("access".into());
    pull_with(&host, &fixture, &server.reference("app:2"), &direct).unwrap();
}

#[test]
fn a_present_image_costs_one_question() {
    let host = Host::new("present");
    let built = image();
    let served = built.clone();
    let server = Server::start(&host, move |asked| honest(&served, asked));
    let fixture = Fixture::new();
    pull(&host, &fixture, &server.reference("app:1")).unwrap();
    let before = server.asked().len();
    pull(&host, &fixture, &server.reference("app:1")).unwrap();
    let asked = server.asked();
    let told: Vec<_> = asked[before..]
        .iter()
        .map(|asked| format!("{} {}", asked.method, asked.path))
        .collect();
    assert_eq!(told, ["HEAD /v2/app/manifests/1"]);
}

#[test]
fn garbage_is_no_image() {
    let host = Host::new("garbage");
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    for (reply, why) in [
        (Reply::Raw(b"\x16\x03\x01 no http at all\r\n\r\n".to_vec()), "invalid HTTP"),
        (Reply::Raw(Vec::new()), "connection closed"),
        (Reply::ok("<html>login</html>"), "cannot read the manifest"),
        (Reply::ok("{}"), "unsupported media type"),
        (Reply::ok(deep), "cannot read the manifest"),
        (Reply::ok(""), "cannot read the manifest"),
        (Reply::Endless, "sends more than 8388608 bytes"),
        (Reply::status(204), "unexpected answer: status 204"),
        (Reply::status(101), "status 101"),
        (
            Reply::ok(r#"{"schemaVersion":1,"name":"x","fsLayers":[]}"#),
            "schema version 1",
        ),
        (
            Reply::ok(r#"{"config":{"digest":"sha512:00","size":1},"layers":[]}"#),
            "is not a sha256 digest",
        ),
        (
            Reply::ok(json!({"config": {"digest": format!("sha256:{}", "a".repeat(64)), "size": 1_u64 << 60}, "layers": []}).to_string()),
            "the configuration has",
        ),
        (
            Reply::ok(json!({"mediaType": INDEX, "manifests": []}).to_string()),
            "no match for platform",
        ),
    ] {
        let shown = format!("{reply:?}").chars().take(100).collect::<String>();
        let mut server = Server::start(&host, move |asked| match asked.method.as_str() {
            "HEAD" => Reply::status(200),
            _ => reply.clone(),
        });
        let fixture = Fixture::new();
        let told = pull(&host, &fixture, &server.reference("app:1")).unwrap_err();
        assert!(told.contains(why), "{shown}: {told}");
        assert!(told.len() < 1000, "{told}");
        fixture.assert_empty();
        server.end(&host);
    }
}

/// A manifest whose bytes follow from `of`, with the digest that goes with them.
fn manifest(of: serde_json::Value, media_type: &str) -> Blob {
    Blob::new(media_type, of.to_string().into_bytes())
}

#[test]
fn wrong_digests_and_sizes_leave_nothing() {
    let host = Host::new("wrong");
    let built = image();
    let layers = |sizes: [i64; 2]| {
        let mut descriptors: Vec<_> = built.layers.iter().map(Blob::descriptor).collect();
        for (descriptor, by) in descriptors.iter_mut().zip(sizes) {
            descriptor["size"] = json!(descriptor["size"].as_i64().unwrap() + by);
        }
        descriptors
    };
    let with = |config: serde_json::Value, layers: Vec<serde_json::Value>| {
        manifest(
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}),
            MANIFEST,
        )
    };
    let config = built.config.descriptor();
    let mut short = config.clone();
    short["size"] = json!(3);
    let other = Blob::new("x", b"{\"rootfs\":{\"diff_ids\":[]}}".to_vec());
    let mut unlike = built.layers.clone();
    unlike[0].bytes = Layer::new().file("small", 0o644, "other").bytes();
    let swapped = vec![built.layers[1].descriptor(), built.layers[0].descriptor()];
    let all: Vec<Blob> = built.blobs().cloned().collect();
    let mut damaged = all.clone();
    for blob in &mut damaged {
        if blob.digest == unlike[0].digest {
            blob.bytes = unlike[0].bytes.clone();
        }
    }
    for (manifest, blobs, why) in [
        (with(config.clone(), layers([5, 0])), &all, "the manifest says"),
        (with(config.clone(), layers([0, -5])), &all, "the manifest says"),
        (with(short, layers([0, 0])), &all, "the manifest says 3"),
        (
            with(other.descriptor(), layers([0, 0])),
            &[all.clone(), vec![other.clone()]].concat(),
            "mismatched image rootfs",
        ),
        (with(config.clone(), swapped), &all, "diff id of the layer is"),
        (
            with(config.clone(), layers([0, 0])),
            &damaged,
            "the manifest says",
        ),
    ] {
        let blobs = blobs.clone();
        let server = Server::start(&host, move |asked| {
            answer(std::slice::from_ref(&manifest), &blobs, asked)
        });
        let fixture = Fixture::new();
        let told = pull(&host, &fixture, &server.reference("app:1")).unwrap_err();
        assert!(told.contains(why), "{why}: {told}");
        fixture.assert_empty();
    }
    // The same, without a length that would give it away.
    let served = built.clone();
    let server = Server::start(&host, move |asked| match asked.path.contains("/blobs/") {
        true => Reply::Endless,
        false => honest(&served, asked),
    });
    let fixture = Fixture::new();
    let told = pull(&host, &fixture, &server.reference("app:1")).unwrap_err();
    assert!(told.contains("sends more than"), "{told}");
    fixture.assert_empty();
    // Another manifest than the digest asked for.
    let server = Server::start(&host, move |asked| match asked.method.as_str() {
        "GET" => Reply::ok("{}"),
        _ => Reply::status(200),
    });
    let told = pull(
        &host,
        &fixture,
        &server.reference(&format!("app@{}", built.manifest.digest)),
    )
    .unwrap_err();
    assert!(told.contains("manifest has digest"), "{told}");
}

#[test]
fn indexes_may_lead_to_indexes_but_not_for_ever() {
    let host = Host::new("loop");
    for (depth, good) in [(2, true), (6, false)] {
        let built = image();
        let platform = json!({"os": built.platform.0, "architecture": built.platform.1});
        let mut chain = vec![built.manifest.clone()];
        for _ in 0..depth {
            let mut entry = chain[0].descriptor();
            entry["platform"] = platform.clone();
            let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
            chain.insert(0, manifest(index, INDEX));
        }
        let blobs: Vec<Blob> = built.blobs().cloned().collect();
        let server = Server::start(&host, move |asked| answer(&chain, &blobs, asked));
        let fixture = Fixture::new();
        let pulled = pull(&host, &fixture, &server.reference("app:1"));
        match good {
            true => assert_eq!(pulled.unwrap().id.as_str(), built.id()),
            false => assert!(pulled.unwrap_err().contains("indexes point to one another")),
        }
    }
}

#[test]
fn hostile_layers_leave_nothing() {
    let host = Host::new("layers");
    let devices = |count: u32| {
        (0..count).fold(Layer::new(), |layer, number| {
            layer.char_device(&format!("d{number}"), 1, 3)
        })
    };
    for (layer, why) in [
        (Layer::new().file("../evil", 0o644, "x"), "leads out of the image"),
        (
            Layer::new().hardlink("shadow", "../../etc/shadow"),
            "leads out of the image",
        ),
        (
            Layer::new().hardlink("shadow", "/etc/shadow"),
            "which is not in the image",
        ),
        // A tmpfs with few inodes is below: see the fixture.
        (devices(3000), "No space left on device"),
        (
            Layer::new()
                .file("fill", 0o644, vec![1; 6 << 20])
                .file("more", 0o644, vec![1; 6 << 20]),
            "No space left on device",
        ),
        (
            Layer::new().file("big", 0o644, vec![1; 12 << 20]),
            "claims 12582912 bytes",
        ),
    ] {
        let built = ImageBuilder::new("localhost/evil:1")
            .layer(Layer::new().file("good", 0o644, "good"))
            .layer_with(layer, Compression::None)
            .build();
        let server = Server::start(&host, move |asked| honest(&built, asked));
        let scratch = knode_testkit::Scratch::new("full");
        std::fs::create_dir(scratch.join("store")).unwrap();
        nix::mount::mount(
            Some("tmpfs"),
            &scratch.join("store"),
            Some("tmpfs"),
            nix::mount::MsFlags::empty(),
            Some("size=8m,nr_inodes=2000"),
        )
        .unwrap();
        let store = support::open(&scratch, support::impatient());
        let fixture = Fixture { scratch, store };
        let told = pull(&host, &fixture, &server.reference("app:1")).unwrap_err();
        assert!(told.contains(why), "{why}: {told}");
        fixture.assert_empty();
        // There is room again for what fits.
        let built = image();
        let served = built.clone();
        let server = Server::start(&host, move |asked| honest(&served, asked));
        let pulled = pull(&host, &fixture, &server.reference("app:1")).unwrap();
        assert_eq!(pulled.id.as_str(), built.id());
    }
}

const CHILD: &str = "KNODE_PULL_TEST";

/// Not a test of its own: the process that is killed in the middle of a pull.
#[test]
fn pulling() {
    let Ok(given) = std::env::var(CHILD) else { return };
    let (store, reference) = given.split_once('=').unwrap();
    let config = knode_images::StoreConfig {
        root: store.into(),
        registries: knode_images::Registries {
            plain_http: vec!["plain.invalid".into()],
            ..support::impatient()
        },
    };
    let store = knode_images::ImageStore::open(config).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // It stalls and is killed, or ends; either way the parent looks at what is left.
    match runtime.block_on(store.pull(reference, &Auth::Anonymous)) {
        Ok(image) => println!("pulled {}", image.id),
        Err(error) => println!("failed: {}", error.chain()),
    }
}

/// Pulls in a process of its own with these variables, and answers what it printed.
fn pull_with_variables(host: &Host, variables: &[String], reference: &str) -> String {
    let scratch = knode_testkit::Scratch::new("child");
    let given = format!("{CHILD}={}={reference}", scratch.join("store").display());
    let program = std::env::current_exe().unwrap().display().to_string();
    let mut words: Vec<&str> = variables.iter().map(String::as_str).collect();
    words.extend([given.as_str(), &program, "--exact", "pulling", "--nocapture"]);
    let mut process = host.spawn("pull", "env", &words);
    process.wait(Duration::from_secs(30));
    process.output()
}

#[test]
fn proxies_of_the_environment_are_used() {
    let host = Host::new("proxy");
    let built = image();
    let served = built.clone();
    let proxy = Server::start(&host, move |asked| match asked.method.as_str() {
        "CONNECT" => Reply::status(403),
        _ => honest(&served, asked),
    });
    let variables = [
        format!("HTTP_PROXY=http://user:pass@{}", proxy.address),
        format!("HTTPS_PROXY=http://{}", proxy.address),
        "NO_PROXY=direct.invalid".to_owned(),
    ];
    let told = pull_with_variables(&host, &variables, "plain.invalid/app:1");
    assert!(told.contains(&format!("pulled {}", built.id())), "{told}");
    for asked in proxy.asked() {
        assert!(
            asked.path.starts_with("http://plain.invalid/v2/app/"),
            "{asked:?}"
        );
        assert_eq!(asked.header("proxy-authorization"), Some("Basic dXNlcjpwYXNz"));
    }
    let told = pull_with_variables(&host, &variables, "secure.invalid/app:1");
    assert!(
        told.contains("failed: ") && told.contains("proxy http://"),
        "{told}"
    );
    let asked = proxy.asked();
    let last = asked.last().unwrap();
    assert_eq!(
        (last.method.as_str(), last.path.as_str()),
        ("CONNECT", "secure.invalid:443")
    );
    let before = asked.len();
    let told = pull_with_variables(&host, &variables, "direct.invalid/app:1");
    assert!(
        told.contains("failed: ") && proxy.asked().len() == before,
        "{told}"
    );
}

#[test]
fn a_pull_that_is_killed_at_any_step_leaves_nothing_and_the_next_succeeds() {
    let host = Host::new("killed");
    let built = image();
    for step in 0..5 {
        let (served, count) = (built.clone(), AtomicUsize::new(0));
        let server = Server::start(&host, move |asked| {
            let reply = honest(&served, asked);
            match (count.fetch_add(1, Ordering::Relaxed) == step, reply) {
                (true, Reply::Whole(_, _, body)) => {
                    Reply::Stall(body.len().max(2), body[..body.len() / 2].to_vec())
                }
                (_, reply) => reply,
            }
        });
        let mut fixture = Fixture::new();
        let reference = server.reference("app:1");
        let given = format!("{CHILD}={}={reference}", fixture.scratch.join("killed").display());
        let program = std::env::current_exe().unwrap().display().to_string();
        let mut process = host.spawn("pull", "env", &[&given, &program, "--exact", "pulling"]);
        knode_testkit::wait_until("the step", Duration::from_secs(20), || {
            let asked = server.asked().len();
            if asked > step {
                Ok(())
            } else {
                Err(format!("{asked} requests"))
            }
        });
        process.signal(nix::sys::signal::Signal::SIGKILL);
        process.wait(Duration::from_secs(10));
        let killed = fixture.scratch.join("killed");
        fixture.store = knode_images::ImageStore::open(knode_images::StoreConfig {
            root: killed,
            registries: support::impatient(),
        })
        .unwrap();
        fixture.assert_empty();
        let pulled = pull(&host, &fixture, &reference).unwrap();
        assert_eq!(pulled.id.as_str(), built.id(), "step {step}");
    }
}
