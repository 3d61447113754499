//! The node's part of the pod network as flanneld tells it, in its subnet file.

use std::path::{Path, PathBuf};

use anyhow::Context;
use ipnet::IpNet;
use knode_linux::filewatch::FileWatch;
use knode_overlay::SubnetFile;
use knode_podnet::Subnet;
use tokio::sync::watch;

/// Names what this part masquerades.
const NETWORK: &str = "kubelet";

/// Follows the file for ever, whether it is there yet or not; answers how that ended.
pub async fn follow(file: PathBuf, subnet: watch::Sender<Option<Subnet>>) -> String {
    match try_follow(&file, &subnet).await {
        Ok(never) => match never {},
        Err(error) => format!("following {} failed: {error:#}", file.display()),
    }
}

async fn try_follow(
    file: &Path,
    subnet: &watch::Sender<Option<Subnet>>,
) -> anyhow::Result<std::convert::Infallible> {
    let dir = file.parent().context("the subnet file has no directory")?;
    std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    let changes = FileWatch::new().context("open inotify")?;
    changes
        .add_directory(dir)
        .with_context(|| format!("watch {}", dir.display()))?;
    let mut last = None;
    loop {
        let now = std::fs::read_to_string(file).ok();
        if now != last {
            take(file, now.as_deref(), subnet).await?;
            last = now;
        }
        changes.changed().await.context("read inotify")?;
    }
}

/// Pods keep their addresses when the file goes: flanneld makes it anew with the same lease.
async fn take(file: &Path, text: Option<&str>, subnet: &watch::Sender<Option<Subnet>>) -> anyhow::Result<()> {
    let Some(text) = text else {
        tracing::info!("waiting for {}: is flanneld running?", file.display());
        return Ok(());
    };
    let read = match SubnetFile::parse(text) {
        Ok(read) => read,
        Err(error) => {
            tracing::warn!("{}: {error}", file.display());
            return Ok(());
        }
    };
    let told = of(&read);
    tracing::info!("pods have addresses of {}", read.subnet);
    if !read.masquerade {
        masquerade(&read, told).await?;
    }
    subnet.send_replace(Some(told));
    Ok(())
}

/// Where flanneld doesn't masquerade, docker did (`--ip-masq` of mk-docker-opts).
async fn masquerade(read: &SubnetFile, subnet: Subnet) -> anyhow::Result<()> {
    let mut networks: Vec<IpNet> = vec![read.network.into()];
    networks.extend(read.ipv6.map(|(network, _)| IpNet::from(network)));
    let made =
        tokio::task::spawn_blocking(move || knode_podnet::ensure_masquerade(NETWORK, subnet, &networks));
    made.await?.context("masquerade what leaves the pod network")
}

/// Takes the rules away.
pub fn forget_masquerade() -> Option<String> {
    let removed = knode_podnet::remove_masquerade(NETWORK);
    removed.err().map(|error| knode_client::brief(&error))
}

fn of(read: &SubnetFile) -> Subnet {
    Subnet {
        ipv4: Some(read.subnet),
        ipv6: read.ipv6.map(|(_, subnet)| subnet),
        mtu: read.mtu,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "FLANNEL_NETWORK=172.30.0.0/16\nFLANNEL_SUBNET=172.30.65.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";

    #[tokio::test]
    async fn the_file_is_followed_from_before_it_is_there() {
        let root = std::env::temp_dir().join(format!("knode-subnet-{}", std::process::id()));
        let file = root.join("flannel/subnet.env");
        let (sender, mut seen) = watch::channel(None);
        let task = tokio::spawn(follow(file.clone(), sender));
        while !file.parent().unwrap().exists() {
            tokio::task::yield_now().await;
        }
        std::fs::write(file.with_extension("tmp"), "FLANNEL_MTU=x\n").unwrap();
        std::fs::rename(file.with_extension("tmp"), &file).unwrap();
        std::fs::write(file.with_extension("tmp"), TEXT).unwrap();
        std::fs::rename(file.with_extension("tmp"), &file).unwrap();
        let bound = std::time::Duration::from_secs(20);
        let told = tokio::time::timeout(bound, seen.wait_for(Option::is_some))
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(told.mtu, 1450);
        assert_eq!(told.ipv4.unwrap().to_string(), "172.30.65.0/24");
        std::fs::remove_file(&file).unwrap();
        assert!(seen.borrow().is_some(), "pods keep their addresses");
        task.abort();
        std::fs::remove_dir_all(&root).unwrap();
    }
}
