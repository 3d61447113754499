//! Real plugins: small programs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::ServiceAccount;
use knode_client::ManualClock;
use knode_volumes::ObjectError;

use super::*;

struct Plugins {
    dir: PathBuf,
    clock: Arc<ManualClock>,
}

impl Drop for Plugins {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.dir).unwrap();
    }
}

const CONFIG: &str = r#"
apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
- name: plugin
  matchImages: ["*.reg.io", "exact.io:5000/team"]
  defaultCacheDuration: 1m30s
  apiVersion: credentialprovider.kubelet.k8s.io/v1
  args: [get]
  env: [{name: SECRET, value: s3cret}]
"#;

impl Plugins {
    /// A plugin that notes each request and answers as `auth` says.
    fn new(script: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("knode-providers-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("config.yaml"), CONFIG).unwrap();
        let program = dir.join("plugin");
        let text = format!(
            "#!/bin/sh\ncat >> {0}/asked; echo >> {0}/asked\n{script}\n",
            dir.display()
        );
        // Written by another process: a file that this one has open for writing cannot be run, also not by a thread
        // that starts a program at the same moment.
        let draft = dir.join("draft");
        fs::write(&draft, text).unwrap();
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).unwrap();
        let copied = std::process::Command::new("cp")
            .arg(&draft)
            .arg(&program)
            .status();
        assert!(copied.unwrap().success());
        Self {
            dir,
            clock: Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH)),
        }
    }

    fn answering(rest: &str) -> Self {
        let head =
            r#""apiVersion":"credentialprovider.kubelet.k8s.io/v1","kind":"CredentialProviderResponse""#;
        Self::new(&format!("cat <<END\n{{{head},{rest}}}\nEND"))
    }

    fn load(&self) -> Result<CredentialProviders, ProvidersError> {
        CredentialProviders::load(&self.dir.join("config.yaml"), &self.dir, self.clock.clone())
    }

    fn asked(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.join("asked")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// A pod whose service account may change.
#[derive(Default)]
struct Member {
    name: &'static str,
    uid: &'static str,
    annotations: &'static [(&'static str, &'static str)],
    token: Option<&'static str>,
}

/// A pod without service account.
const NONE: Member = Member {
    name: "",
    uid: "",
    annotations: &[],
    token: None,
};

#[async_trait]
impl PodAccount for Member {
    fn namespace(&self) -> &str {
        "n"
    }

    fn name(&self) -> &str {
        self.name
    }

    async fn account(&self) -> Result<Option<ServiceAccount>, ObjectError> {
        let mut account = ServiceAccount::default();
        account.metadata.uid = Some(self.uid.to_owned());
        let all = self
            .annotations
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()));
        account.metadata.annotations = Some(all.collect());
        Ok((!self.uid.is_empty()).then_some(account))
    }

    async fn token(&self, audience: &str) -> Result<String, ObjectError> {
        match self.token {
            Some(token) => Ok(format!("{token} for {audience}")),
            None => Err(ObjectError("no tokens today".to_owned())),
        }
    }
}

const MEMBER: Member = Member {
    name: "builder",
    uid: "1",
    annotations: &[("reg.io/role", "puller"), ("reg.io/team", "a"), ("other", "x")],
    token: Some("t1"),
};

/// Tests' plugins with these `tokenAttributes`.
fn with_attributes(plugins: &Plugins, attributes: &str) -> CredentialProviders {
    let wanted = format!("tokenAttributes: {{serviceAccountTokenAudience: aud, {attributes}}}");
    fs::write(plugins.dir.join("config.yaml"), format!("{CONFIG}  {wanted}\n")).unwrap();
    plugins.load().unwrap()
}

fn told(found: &[NodeCredential]) -> Vec<String> {
    found
        .iter()
        .map(|one| format!("{}:{}", one.auth.username, one.auth.password))
        .collect()
}

#[tokio::test]
async fn a_plugin_is_asked_for_its_images_and_its_answer_kept() {
    let plugins = Plugins::answering(
        r#""cacheKeyType":"Registry","auth":{
            "*.reg.io":{"username":"$1","password":"$SECRET"},
            "a.reg.io/team":{"username":"near","password":"p"},
            "other.io":{"username":"x","password":"y"}}"#,
    );
    let providers = plugins.load().unwrap();
    let near = providers.credentials("a.reg.io/team/app", &NONE).await;
    assert_eq!(near[0].account, None, "they are every pod's");
    assert_eq!(told(&near), ["near:p", "get:s3cret"]);
    let other = providers.credentials("a.reg.io/x", &NONE).await;
    assert_eq!(told(&other), ["get:s3cret"]);
    assert!(
        providers
            .credentials("docker.io/library/nginx", &NONE)
            .await
            .is_empty()
    );
    assert!(providers.credentials("exact.io/team/x", &NONE).await.is_empty());
    let request = r#"{"apiVersion":"credentialprovider.kubelet.k8s.io/v1","image":"a.reg.io/team/app","kind":"CredentialProviderRequest"}"#;
    assert_eq!(plugins.asked(), [request]);
    // After the default time it is asked again.
    plugins.clock.advance(std::time::Duration::from_secs(91));
    providers.credentials("a.reg.io/x", &NONE).await;
    assert_eq!(plugins.asked().len(), 2);
}

#[tokio::test]
async fn answers_say_how_long_and_for_what_they_are_kept() {
    for (rest, runs) in [
        (r#""cacheKeyType":"Image","auth":null"#, 3),
        (r#""cacheKeyType":"Registry""#, 2),
        (r#""cacheKeyType":"Global","auth":{}"#, 1),
        (r#""cacheKeyType":"Global","cacheDuration":"0s","auth":{}"#, 4),
    ] {
        let plugins = Plugins::answering(rest);
        let providers = plugins.load().unwrap();
        for image in ["a.reg.io/x", "a.reg.io/x", "a.reg.io/y", "b.reg.io/x"] {
            providers.credentials(image, &NONE).await;
        }
        assert_eq!(plugins.asked().len(), runs, "{rest}");
    }
}

#[tokio::test]
async fn a_plugin_that_fails_gives_nothing() {
    let wrong = r#""kind":"CredentialProviderResponse","cacheKeyType":"Image""#;
    for script in [
        "exit 1".to_owned(),
        "echo no json".to_owned(),
        "head -c 3000000 /dev/zero".to_owned(),
        format!("echo '{{\"apiVersion\":\"credentialprovider.kubelet.k8s.io/v1beta1\",{wrong}}}'"),
    ] {
        let plugins = Plugins::new(&script);
        assert!(
            plugins
                .load()
                .unwrap()
                .credentials("a.reg.io/x", &NONE)
                .await
                .is_empty(),
            "{script}"
        );
    }
    let plugins = Plugins::answering(r#""cacheKeyType":"Planet""#);
    assert!(
        plugins
            .load()
            .unwrap()
            .credentials("a.reg.io/x", &NONE)
            .await
            .is_empty()
    );
}

#[test]
fn configurations_that_cannot_be_meant_are_refused() {
    let plugins = Plugins::new("");
    for (from, to, why) in [
        ("name: plugin", "name: absent", "cannot be used"),
        ("name: plugin", "name: ../plugin", "that of a file"),
        ("\"*.reg.io\"", "\"reg.io/*\"", "no pattern of images"),
        ("1m30s", "soon", "no duration"),
        (
            "defaultCacheDuration: 1m30s",
            "",
            "defaultCacheDuration is required",
        ),
        (
            "apiVersion: credentialprovider.kubelet.k8s.io/v1",
            "apiVersion: v2",
            "unsupported",
        ),
        ("args: [get]", "arg: [get]", "cannot understand"),
        ("CredentialProviderConfig", "KubeletConfiguration", "unsupported"),
    ] {
        fs::write(plugins.dir.join("config.yaml"), CONFIG.replace(from, to)).unwrap();
        let told = plugins.load().unwrap_err().to_string();
        assert!(told.contains(why), "{to}: {told}");
    }
    // A directory's files are one configuration; a name may be there once.
    fs::write(plugins.dir.join("config.yaml"), CONFIG).unwrap();
    fs::write(plugins.dir.join("more.json"), CONFIG).unwrap();
    let both = CredentialProviders::load(&plugins.dir, &plugins.dir, plugins.clock.clone());
    assert!(both.unwrap_err().to_string().contains("twice"));
}

const BOTH: &str = "requireServiceAccount: true, requiredServiceAccountAnnotationKeys: [reg.io/role], \
                    optionalServiceAccountAnnotationKeys: [reg.io/team, reg.io/more]";

#[tokio::test]
async fn a_plugin_is_told_the_account_of_the_pod() {
    let plugins =
        Plugins::answering(r#""cacheKeyType":"Global","auth":{"*.reg.io":{"username":"u","password":"p"}}"#);
    let providers = with_attributes(&plugins, &format!("cacheType: Token, {BOTH}"));
    for _ in 0..2 {
        let found = providers.credentials("a.reg.io/x", &MEMBER).await;
        assert_eq!(told(&found), ["u:p"]);
        let account = found[0].account.clone().unwrap();
        assert_eq!(
            (account.name.as_str(), account.uid.as_str()),
            ("builder", "1"),
            "whose they are"
        );
    }
    let request = concat!(
        r#"{"apiVersion":"credentialprovider.kubelet.k8s.io/v1","image":"a.reg.io/x","#,
        r#""kind":"CredentialProviderRequest","#,
        r#""serviceAccountAnnotations":{"reg.io/role":"puller","reg.io/team":"a"},"#,
        r#""serviceAccountToken":"t1 for aud"}"#
    );
    assert_eq!(plugins.asked(), [request]);
    // Who has no account, lacks what is required, or cannot be told, is not asked for.
    for pod in [
        NONE,
        Member {
            annotations: &[("reg.io/team", "a")],
            ..MEMBER
        },
        Member { uid: "", ..MEMBER },
        Member {
            token: None,
            ..MEMBER
        },
    ] {
        assert!(providers.credentials("a.reg.io/x", &pod).await.is_empty());
    }
    assert_eq!(plugins.asked().len(), 1);
    // A plugin may be for pods without account too.
    let providers = with_attributes(&plugins, "cacheType: Token, requireServiceAccount: false");
    assert_eq!(told(&providers.credentials("a.reg.io/x", &NONE).await), ["u:p"]);
    assert!(!plugins.asked()[1].contains("serviceAccount"));
}

#[tokio::test]
async fn answers_serve_the_account_or_the_token_that_they_are_for() {
    for (cache_type, runs) in [("ServiceAccount", 4), ("Token", 5)] {
        let plugins = Plugins::answering(r#""cacheKeyType":"Global","auth":{}"#);
        let providers = with_attributes(&plugins, &format!("cacheType: {cache_type}, {BOTH}"));
        for pod in [
            MEMBER,
            MEMBER,
            Member {
                token: Some("t2"),
                ..MEMBER
            },
            Member { uid: "2", ..MEMBER },
            Member {
                name: "other",
                ..MEMBER
            },
            Member {
                annotations: &[("reg.io/role", "pusher")],
                ..MEMBER
            },
        ] {
            providers.credentials("a.reg.io/x", &pod).await;
        }
        assert_eq!(plugins.asked().len(), runs, "{cache_type}");
    }
}

#[test]
fn token_attributes_that_cannot_be_meant_are_refused() {
    let plugins = Plugins::new("");
    let good = "serviceAccountTokenAudience: a, cacheType: Token, requireServiceAccount: true";
    for (attributes, why) in [
        (
            good.replace(": a,", ": '',"),
            "serviceAccountTokenAudience is required",
        ),
        (good.replace("cacheType: Token, ", ""), "cacheType is required"),
        (good.replace("Token,", "Pod,"), "\"Pod\" is neither"),
        (
            good.replace(", requireServiceAccount: true", ""),
            "requireServiceAccount is required",
        ),
        (
            format!(
                "{}, requiredServiceAccountAnnotationKeys: [a]",
                good.replace("true", "false")
            ),
            "needs requireServiceAccount",
        ),
        (
            format!("{good}, optionalServiceAccountAnnotationKeys: [a, a]"),
            "\"a\" twice",
        ),
        (
            format!("{good}, optionalServiceAccountAnnotationKeys: [a b]"),
            "has \"a b\"",
        ),
        (
            format!(
                "{good}, requiredServiceAccountAnnotationKeys: [A], optionalServiceAccountAnnotationKeys: [A]"
            ),
            "both required and optional",
        ),
        (format!("{good}, audience: x"), "cannot understand"),
    ] {
        fs::write(
            plugins.dir.join("config.yaml"),
            format!("{CONFIG}  tokenAttributes: {{{attributes}}}\n"),
        )
        .unwrap();
        let told = plugins.load().unwrap_err().to_string();
        assert!(told.contains(why), "{attributes}: {told}");
    }
    let older = CONFIG.replace(
        "credentialprovider.kubelet.k8s.io/v1",
        "credentialprovider.kubelet.k8s.io/v1beta1",
    );
    fs::write(
        plugins.dir.join("config.yaml"),
        format!("{older}  tokenAttributes: {{{good}}}\n"),
    )
    .unwrap();
    let told = plugins.load().unwrap_err().to_string();
    assert!(told.contains("only supported for"), "{told}");
}
