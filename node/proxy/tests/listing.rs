//! What `nft list ruleset` shows of the table.

mod common;

use common::fixture::{add, config, service, slice};
use common::hosts::{in_fresh_netns, nft};
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
        let mut applier = Applier::open(config()).expect("open");
        let applied = applier.take_over(&model).expect("take over");
        assert!(applied.repaired);
        let listing = nft(&["-n", "list", "ruleset"]);
        for line in [
            "10.96.0.10 . 6 . 80 : goto pick-2",
            "10.96.0.13 . 17 . 53 : goto reject",
            "0.0.0.0 . 6 . 30080 : goto pick-node-2",
            "0.0.0.1 . 6 . 30082 : jump pick-node-outside-1",
            "10.96.0.10 . 6 . 80 . 0x00000001 : 10.244.1.2 . 8080",
        ] {
            assert!(listing.contains(line), "{line:?} is not in:\n{listing}");
        }
        println!("{listing}");
        assert!(
            !applier.verify().expect("verify").repaired,
            "what was written is not what is read"
        );
    });
}
