//! The client with plugins that keep books: order, records, restarts, garbage, bounds, a directory that changes.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

mod support;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{join, join_all};
use knode_cni::{Capabilities, Cni, Config, Error, Loaded};
use knode_testkit::wait_until_async;
use serde_json::json;
use support::{BOUND, Node, attachment, told, with};

/// Any namespace: these plugins do not look into it.
const NETNS: &str = "/proc/self/ns/net";

fn list(version: &str, plugins: &[&str], more: &str) -> String {
    let plugins: Vec<_> = plugins
        .iter()
        .map(|p| json!({"type": p, "capabilities": {"mac": true}}))
        .collect();
    let plugins = json!(plugins);
    format!(r#"{{"cniVersion":"{version}","name":"n"{more},"plugins":{plugins}}}"#)
}

#[tokio::test]
async fn a_container_goes_as_it_came_whatever_became_of_the_configuration() {
    let node = Node::new("cni-keep");
    let (a, b, c) = (node.plugin("a"), node.plugin("b"), node.plugin("c"));
    node.conf("10.conflist", &list("1.0.0", &["a", "b"], ""));
    let mac = Capabilities {
        mac: Some("02:00:00:00:00:01".into()),
        ..Capabilities::default()
    };
    let attached = node.cni().add(with("one", NETNS, mac)).await.unwrap();
    assert_eq!(attached.ips, ["192.0.2.7".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(node.calls(), ["ADD a one", "ADD b one"]);
    let seen = b.told("ADD");
    assert_eq!(
        seen["prevResult"]["dns"]["domain"], "a",
        "the result of the plugin before"
    );
    assert_eq!(
        (&seen["name"], &seen["cniVersion"]),
        (&json!("n"), &json!("1.0.0"))
    );
    assert_eq!(seen["runtimeConfig"], json!({"mac": "02:00:00:00:00:01"}));
    let path = format!("CNI_PATH={}:/usr/lib/cni", node.bin_dir().display());
    let environment = b.environment("ADD");
    for wanted in [
        path.as_str(),
        "CNI_IFNAME=eth0",
        "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAME=one",
    ] {
        assert!(
            environment.lines().any(|line| line == wanted),
            "{wanted} in {environment}"
        );
    }

    // Another configuration, another process.
    node.conf("10.conflist", &list("1.0.0", &["c"], ""));
    let cni = node.cni();
    cni.add(attachment("two", NETNS)).await.unwrap();
    assert_eq!(node.calls(), ["ADD c two"]);
    assert!(cni.remove("one").await.unwrap());
    assert_eq!(node.calls(), ["DEL b one", "DEL a one"]);
    assert_eq!(
        b.told("DEL")["prevResult"]["dns"]["domain"],
        "b",
        "the result of all"
    );
    assert_eq!(
        b.told("DEL")["runtimeConfig"],
        json!({"mac": "02:00:00:00:00:01"})
    );
    assert_eq!(
        (a.holds().len(), b.holds().len(), c.holds()),
        (0, 0, vec!["two".to_owned()])
    );
    assert!(!cni.remove("one").await.unwrap(), "it is not attached any more");
    assert_eq!(node.records(), ["n-two-eth0"]);

    // Whoever takes everything down knows neither the configurations nor the plugins' places.
    let bare = Config::new(None, Vec::new(), node.scratch.join("cache"));
    let collected = Cni::open(bare).unwrap().gc(&HashSet::new()).await.unwrap();
    assert_eq!(
        (collected.detached, collected.errors.len()),
        (vec!["two".to_owned()], 0)
    );
    assert_eq!((c.holds().len(), node.records().len()), (0, 0));
}

#[tokio::test]
async fn a_namespace_that_is_gone_is_not_named() {
    let node = Node::new("cni-gone");
    let a = node.plugin("a");
    node.conf("10.conflist", &list("1.0.0", &["a"], ""));
    let file = node.scratch.join("no-namespace-any-more");
    std::fs::write(&file, "").unwrap();
    let cni = node.cni();
    cni.add(attachment("one", &file)).await.unwrap();
    assert!(
        a.environment("ADD")
            .contains(&format!("CNI_NETNS={}\n", file.display()))
    );
    assert!(cni.remove("one").await.unwrap());
    assert!(
        a.environment("DEL").contains("CNI_NETNS=\n"),
        "{}",
        a.environment("DEL")
    );
}

#[tokio::test]
async fn a_failed_add_is_taken_back_and_says_why() {
    let node = Node::new("cni-back");
    let (a, b) = (node.plugin("a"), node.plugin("b"));
    node.conf("10.conflist", &list("1.0.0", &["a", "b"], ""));
    b.fails(
        "ADD",
        Some(r#"{"cniVersion":"1.0.0","code":7,"msg":"no","details":"not today"}"#),
    );
    let cni = node.cni();
    let error = cni.add(attachment("one", NETNS)).await.unwrap_err();
    assert_eq!(
        told(&error),
        r#"plugin type="b" name="n" failed (add): no; not today (code 7)"#
    );
    assert_eq!(node.calls(), ["ADD a one", "ADD b one", "DEL b one", "DEL a one"]);
    assert_eq!((a.holds().len(), node.records().len()), (0, 0));

    // What cannot be taken back stays known, and is taken back later.
    a.fails("DEL", Some(r#"{"code":5,"msg":"the disk"}"#));
    let error = cni.add(attachment("two", NETNS)).await.unwrap_err();
    assert!(told(&error).contains("the disk"), "{}", told(&error));
    assert_eq!(node.records(), ["n-two-eth0"]);
    a.fails("DEL", None);
    assert!(node.cni().remove("two").await.unwrap());
    assert_eq!((a.holds().len(), node.records().len()), (0, 0));
}

#[tokio::test]
async fn results_without_an_address_are_taken_back() {
    let node = Node::new("cni-none");
    node.script(
        "bare",
        r#"echo "$CNI_COMMAND" >> "$(dirname "$0")/calls"; echo '{"cniVersion":"1.0.0"}'"#,
    );
    node.conf("10.conflist", &list("1.0.0", &["bare"], ""));
    let error = node.cni().add(attachment("one", NETNS)).await.unwrap_err();
    assert!(matches!(error, Error::NoAddress { .. }), "{}", told(&error));
    assert_eq!(
        (node.calls(), node.records()),
        (vec!["ADD".to_owned(), "DEL".to_owned()], vec![])
    );
}

#[tokio::test]
async fn what_a_crash_cut_short_is_taken_back_at_the_next_start() {
    let node = Node::new("cni-crash");
    let hangs = r#"[ "$CNI_COMMAND" = ADD ] || { echo "$CNI_COMMAND $CNI_CONTAINERID" >> "$(dirname "$0")/calls"; exit; }
        echo $$ > "$0.pid"; sleep 1000 & wait"#;
    node.script("hangs", hangs);
    node.conf("10.conflist", &list("1.0.0", &["hangs"], ""));
    let cni = node.cni();
    let adding = tokio::spawn(async move { cni.add(attachment("one", NETNS)).await });
    let pid_file = node.bin_dir().join("hangs.pid");
    let pid = wait_until_async("the plugin to run", BOUND, || async {
        std::fs::read_to_string(&pid_file)
            .ok()
            .and_then(|t| t.trim().parse::<i32>().ok())
    })
    .await;
    adding.abort();
    assert!(adding.await.unwrap_err().is_cancelled());
    no_group(pid).await;
    assert_eq!(
        node.records(),
        ["n-one-eth0"],
        "it is known that something was begun"
    );

    let collected = node.cni().gc(&HashSet::new()).await.unwrap();
    assert_eq!(
        (collected.detached, collected.errors.len()),
        (vec!["one".to_owned()], 0)
    );
    assert_eq!(
        (node.calls(), node.records()),
        (vec!["DEL one".to_owned()], vec![])
    );
}

/// Waits until nobody of a process group is left but what waits to be reaped.
async fn no_group(group: i32) {
    let alive = |stat: String| {
        let fields: Vec<_> = stat
            .rsplit(')')
            .next()?
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        (fields[2] == group.to_string() && fields[0] != "Z").then_some(stat)
    };
    wait_until_async("the plugin's processes to end", BOUND, || async {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let stats = all.filter_map(|e| std::fs::read_to_string(e.path().join("stat")).ok());
        match stats.filter_map(alive).next() {
            Some(stat) => Err(stat),
            None => Ok(()),
        }
    })
    .await;
}

#[tokio::test]
async fn a_plugin_may_not_take_for_ever_nor_say_everything() {
    let node = Node::new("cni-bounds");
    node.conf("10.conflist", &list("1.0.0", &["p"], ""));
    let cni = || {
        let mut config = node.config();
        config.bound = Duration::from_secs(1);
        Cni::open(config).unwrap()
    };
    let fails = async |body: &str| {
        node.script("p", body);
        told(&cni().add(attachment("one", NETNS)).await.unwrap_err())
    };
    let slow = r#"[ "$CNI_COMMAND" = ADD ] || exit 0; echo $$ > "$0.pid"; sleep 1000 & wait"#;
    let told = fails(slow).await;
    assert!(told.contains("did not end within 1s"), "{told}");
    let pid = std::fs::read_to_string(node.bin_dir().join("p.pid")).unwrap();
    no_group(pid.trim().parse().unwrap()).await;

    let told = fails(r#"[ "$CNI_COMMAND" = ADD ] || exit 0; yes"#).await;
    assert!(told.contains("printed more than 1048576 bytes"), "{told}");
    let told = fails("exit 0").await;
    assert!(
        told.contains("its result is not usable: it printed nothing"),
        "{told}"
    );
    let told = fails(r#"[ "$CNI_COMMAND" = ADD ] || exit 0; echo nothing to say >&2; exit 3"#).await;
    assert!(
        told.contains("exit status: 3") && told.contains("nothing to say"),
        "{told}"
    );
    assert_eq!(node.records(), Vec::<String>::new());
}

#[tokio::test]
async fn a_missing_plugin_is_told_with_the_places_that_were_searched() {
    let node = Node::new("cni-missing");
    let a = node.plugin("a");
    node.conf("10.conflist", &list("1.0.0", &["a", "nobodys"], ""));
    let told = told(&node.cni().add(attachment("one", NETNS)).await.unwrap_err());
    let places = format!(
        r#"failed to find plugin "nobodys" in path [{} /usr/lib/cni]"#,
        node.bin_dir().display()
    );
    assert!(told.contains(&places), "{told}");
    assert_eq!(a.holds(), Vec::<String>::new(), "the plugin before is taken back");
}

#[tokio::test]
async fn containers_are_attached_side_by_side() {
    let node = Node::new("cni-parallel");
    // Each waits for the other to have begun.
    let meet = r#"d=$(dirname "$0"); : > "$d/begun.$CNI_CONTAINERID"; n=0
        while [ "$(ls "$d" | grep -c ^begun)" -lt 2 ]; do n=$((n+1)); [ $n -gt 400 ] && exit 1; sleep 0.05; done
        echo '{"ips":[{"address":"192.0.2.7/24"}]}'"#;
    node.script("meet", meet);
    node.conf("10.conflist", &list("1.0.0", &["meet"], ""));
    let cni = node.cni();
    let (one, two) = join(
        cni.add(attachment("one", NETNS)),
        cni.add(attachment("two", NETNS)),
    )
    .await;
    one.and(two).unwrap();
    assert_eq!(node.records(), ["n-one-eth0", "n-two-eth0"]);
}

#[tokio::test]
async fn garbage_is_collected_and_plugins_are_told_what_is_left() {
    let node = Node::new("cni-gc");
    let (a, old) = (node.plugin("a"), node.plugin("old"));
    node.conf("10.conflist", &list("0.4.0", &["old"], ""));
    node.cni().add(attachment("stale-old", NETNS)).await.unwrap();
    node.conf("10.conflist", &list("1.1.0", &["a"], ""));
    let cni = node.cni();
    let adds = ["live", "stale"].map(|id| cni.add(attachment(id, NETNS)));
    for added in join_all(adds).await {
        added.unwrap();
    }
    node.calls();
    let live: HashSet<_> = ["live".to_owned()].into();
    let collected = cni.gc(&live).await.unwrap();
    assert_eq!(collected.detached, ["stale", "stale-old"]);
    assert_eq!(node.calls(), ["DEL a stale", "DEL old stale-old", "GC a "]);
    let valid = json!([{"containerID": "live", "ifname": "eth0"}]);
    assert_eq!(a.told("GC")["cni.dev/valid-attachments"], valid);
    assert_eq!((a.holds(), old.holds()), (vec!["live".to_owned()], vec![]));

    // Others use the network too: they are not told, but what is ours goes.
    node.conf("10.conflist", &list("1.1.0", &["a"], r#","disableGC":true"#));
    node.cni().gc(&HashSet::new()).await.unwrap();
    assert_eq!(node.calls(), ["DEL a live"]);
    node.conf("10.conflist", &list("1.0.0", &["a"], ""));
    node.cni().gc(&HashSet::new()).await.unwrap();
    assert_eq!(node.calls(), Vec::<String>::new(), "1.0.0 has no GC");

    // One that fails does not keep the others.
    node.conf("10.conflist", &list("1.1.0", &["a"], ""));
    let cni = node.cni();
    cni.add(attachment("x", NETNS)).await.unwrap();
    a.fails("DEL", Some(r#"{"code":5,"msg":"the disk"}"#));
    let collected = cni.gc(&HashSet::new()).await.unwrap();
    assert!(told(&collected.errors[0]).contains("the disk"));
    assert_eq!(node.records(), ["n-x-eth0"]);
}

#[tokio::test]
async fn status_is_what_the_directory_the_plugins_and_their_versions_say() {
    let node = Node::new("cni-status");
    let status = async || node.cni().status().await.map_err(|e| told(&e));
    let none = status().await.unwrap_err();
    let expected = "cni plugin not initialized: no network config found in ";
    assert_eq!(none, format!("{expected}{}", node.conf_dir().display()));
    node.conf("10.conflist", "{\n\"name\": 1,,}");
    let broken = status().await.unwrap_err();
    assert!(broken.starts_with("cni config load failed: "), "{broken}");
    assert!(
        broken.contains("10.conflist") && broken.contains("line 2 column 11"),
        "{broken}"
    );

    node.conf("10.conflist", &list("1.1.0", &["a"], ""));
    let missing = status().await.unwrap_err();
    assert!(missing.contains("failed to find plugin \"a\""), "{missing}");
    let a = node.plugin("a");
    assert_eq!(status().await, Ok(()));
    assert_eq!(node.calls(), ["STATUS a "]);
    a.fails("STATUS", Some(r#"{"code":50,"msg":"no controller"}"#));
    let said = status().await.unwrap_err();
    assert_eq!(
        said,
        r#"plugin type="a" name="n" failed (status): no controller (code 50)"#
    );
    node.conf("10.conflist", &list("1.0.0", &["a"], ""));
    assert_eq!(status().await, Ok(()), "1.0.0 has no STATUS");
    a.speaks("0.3.1");
    let old = status().await.unwrap_err();
    assert_eq!(
        old,
        r#"cni: plugin "a" does not speak version 1.0.0 of the specification, only 0.3.1"#
    );
    node.conf("10.conflist", &list("0.2.0", &["a"], ""));
    let refused = status().await.unwrap_err();
    assert!(
        refused.contains("version 0.2.0 of the specification is not supported"),
        "{refused}"
    );
}

#[tokio::test]
async fn what_is_attached_can_be_checked() {
    let node = Node::new("cni-check");
    let a = node.plugin("a");
    let attach = async |version: &str, more: &str, id: &str| {
        node.conf("10.conflist", &list(version, &["a"], more));
        let cni = node.cni();
        cni.add(attachment(id, NETNS)).await.unwrap();
        node.calls();
        cni
    };
    let cni = attach("1.0.0", "", "one").await;
    cni.check("one").await.unwrap();
    assert_eq!(a.told("CHECK")["prevResult"]["dns"]["domain"], "a");
    std::fs::remove_file(node.bin_dir().join("a.held/one")).unwrap();
    let broken = told(&cni.check("one").await.unwrap_err());
    assert_eq!(
        broken,
        r#"plugin type="a" name="n" failed (check): not attached (code 100)"#
    );
    let cni = attach("1.0.0", r#","disableCheck":true"#, "two").await;
    cni.check("two").await.unwrap();
    assert_eq!(node.calls(), Vec::<String>::new(), "nobody is asked");
    let cni = attach("0.3.1", "", "three").await;
    assert!(matches!(cni.check("three").await, Err(Error::NoCheck(_))));
}

#[tokio::test]
async fn a_configuration_that_comes_changes_and_goes_is_followed() {
    let node = Node::new("cni-follow");
    std::fs::remove_dir(node.conf_dir()).unwrap();
    let mut config = node.config();
    // Neither the directory nor the one above it is there at first.
    let dir = node.conf_dir().join("deep/net.d");
    config.conf_dir = Some(dir.clone());
    let cni = Cni::open(config).unwrap();
    let loaded = cni.loaded();
    let running = tokio::spawn(async move { cni.run().await });
    let now = || loaded.borrow().clone();
    let file = |loaded: Arc<Loaded>| {
        let network = loaded.network.as_ref()?;
        Some((
            network.file.file_name()?.to_str()?.to_owned(),
            network.list.plugins.len(),
        ))
    };
    let until = async |what: &str, wanted: Option<(&str, usize)>, broken: usize| {
        let wanted = wanted.map(|(name, count)| (name.to_owned(), count));
        wait_until_async(what, BOUND, || async {
            let seen = now();
            let same = file(seen.clone()) == wanted && seen.broken.len() == broken;
            if same { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await;
    };
    let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
    until("nothing", None, 0).await;
    std::fs::create_dir_all(&dir).unwrap();
    write("20.conflist", &list("1.0.0", &["a"], ""));
    until("it came", Some(("20.conflist", 1)), 0).await;
    write("20.conflist", &list("1.0.0", &["a", "b"], ""));
    until("it changed", Some(("20.conflist", 2)), 0).await;
    write("10.conflist", "{");
    until("a broken one is passed over", Some(("20.conflist", 2)), 1).await;
    write("10.conflist", &list("1.0.0", &["a"], ""));
    until("it is mended and the first", Some(("10.conflist", 1)), 0).await;
    std::fs::create_dir(dir.join("n")).unwrap();
    write("n/1.conf", r#"{"type":"tuning"}"#);
    until("a plugin in the network's directory", Some(("10.conflist", 2)), 0).await;
    std::fs::remove_file(dir.join("10.conflist")).unwrap();
    until("the next one", Some(("20.conflist", 3)), 0).await;
    let elsewhere = node.scratch.join("elsewhere");
    std::fs::rename(&dir, &elsewhere).unwrap();
    until("the whole directory went", None, 0).await;
    std::fs::rename(&elsewhere, &dir).unwrap();
    until("and came back", Some(("20.conflist", 3)), 0).await;
    std::fs::remove_dir_all(node.conf_dir()).unwrap();
    until("all went", None, 0).await;
    std::fs::create_dir_all(&dir).unwrap();
    write("30.conf", r#"{"cniVersion":"0.3.1","name":"c","type":"macvlan"}"#);
    until("it came again", Some(("30.conf", 1)), 0).await;
    assert!(!running.is_finished());
    running.abort();
}

#[tokio::test]
async fn names_that_lead_elsewhere_are_refused_before_anything_is_executed() {
    let node = Node::new("cni-names");
    node.plugin("a");
    node.conf("10.conflist", &list("1.0.0", &["a"], ""));
    let error = node.cni().add(attachment("../x", NETNS)).await.unwrap_err();
    assert!(matches!(error, Error::Attachment(_)), "{}", told(&error));
    assert!(node.calls().is_empty() && !Path::new(&node.scratch.join("cache")).exists());
}
