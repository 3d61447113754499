//! What `nft list ruleset` shows of the table.

mod common;

use common::fixture::{add, config, service, slice};
use common::hosts::{elements, in_fresh_netns, nft};
use knode_proxy::Applier;
use knode_proxy::model::{Model, Protocol};

#[test]
fn the_table_is_readable_with_nft() {
    in_fresh_netns(|| {
        let mut model = Model::default();
        let web = slice(Protocol::Tcp, 8080, &["10.244.0.2", "10.244.1.2"]);
        add(
            &mut model,
            "a/web",
            service("10.96.0.10", Protocol::Tcp, 80, 30080),
            web.clone(),
        );
        let mut sticky = service("10.96.0.11", Protocol::Tcp, 80, 30081);
        sticky.affinity = Some(600);
        add(&mut model, "a/sticky", sticky, web.clone());
        let mut local = service("10.96.0.12", Protocol::Tcp, 80, 30082);
        local.external_local = true;
        add(&mut model, "a/local", local, web);
        add(
            &mut model,
            "a/none",
            service("10.96.0.13", Protocol::Udp, 53, 0),
            slice(Protocol::Udp, 53, &[]),
        );
        let mut six = service("fd10:96::10", Protocol::Tcp, 80, 30083);
        (six.affinity, six.external_local, six.internal_local) = (Some(600), true, true);
        let pods = ["fd10:244::2", "fd10:244::3", "fd10:244:1::2"];
        add(&mut model, "a/six", six, slice(Protocol::Tcp, 8080, &pods));
        let mut applier = Applier::open(config()).expect("open");
        let applied = applier.take_over(&model).expect("take over");
        assert!(applied.repaired);
        let listing = nft(&["-n", "list", "ruleset"]);
        for line in [
            "ip daddr . meta l4proto . th dport @to-cluster goto pick",
            "0.0.0.0 . 6 . 30082 counter packets 0 bytes 0 : goto pick-node-local-1-of-2",
            "ip daddr . meta l4proto . th dport . numgen random mod 1 map @eps",
            "10.96.0.12 . 6 . 80 . 0x00000000 : 10.244.0.2 . 8080",
            "0.0.0.0 . 6 . 30082 . 0x01000000 : 10.244.0.2 . 8080",
            "0.0.0.0 . 6 . 30081 : jump remember-600-10.96.0.11-tcp-80",
            "fd10:96::10 . 6 . 80 counter packets 0 bytes 0 : goto pick-2-sticky-here-fd10_96__10-tcp-80",
            "10.96.0.10 . 6 . 80 . 0x00000001 : 10.244.1.2 . 8080",
        ] {
            assert!(listing.contains(line), "{line:?} is not in:\n{listing}");
        }
        for (set, element) in [
            ("to-cluster", "10.96.0.10 . 6 . 80 counter packets 0"),
            ("to-node", "0.0.0.0 . 6 . 30080 counter packets 0"),
            ("no-endpoints", "10.96.0.13 . 17 . 53 counter packets 0"),
            ("count-2", "0.0.0.0 . 6 . 30080"),
        ] {
            let found = elements(&listing, set);
            assert!(found.contains(element), "{element:?} is not in {set}:\n{listing}");
        }
        println!("{listing}");
        assert!(
            !applier.verify().expect("verify").repaired,
            "what was written is not what is read"
        );
    });
}
