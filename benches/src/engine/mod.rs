//! The engine beside containerd with runc and with crun: the same machine, the same run, the same client over CRI, the
//! same images from the same registry.

mod contender;
mod images;
mod pods;
mod report;
mod watch;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use knode_testkit::{Host, Registry, Scratch};

use contender::Contender;
use images::Images;
use report::Column;

/// How much is measured.
struct Scale {
    /// Pods that are started and ended one at a time.
    singles: usize,
    /// Pods that are there at once.
    bulks: &'static [usize],
    /// Pods that are started and ended one at a time beside those.
    beside: usize,
    commands: usize,
    pulls: usize,
    /// Bytes of each of the five layers of the large image.
    layer: usize,
}

const FULL: Scale = Scale {
    singles: 30,
    bulks: &[1, 50, 200],
    beside: 10,
    commands: 30,
    pulls: 3,
    layer: 40_000_000,
};

/// To see that it works.
const SMALL: Scale = Scale {
    singles: 5,
    bulks: &[1, 8],
    beside: 3,
    commands: 10,
    pulls: 1,
    layer: 4_000_000,
};

/// After a change, until the processes count as idle: ours gives memory back after five seconds.
const SETTLE: Duration = Duration::from_secs(8);

/// Measures all three, or ours `alone`, and prints the table.
pub fn all(binary: &Path, small: bool, alone: bool) -> anyhow::Result<()> {
    let scale = if small { &SMALL } else { &FULL };
    let host = Host::new("bench");
    let scratch = Scratch::new("bench-engine");
    let registry = Registry::start(&host);
    let images = Images::push(&registry, scale.layer)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("start a runtime")?;
    let mut columns = Vec::new();
    if !alone {
        let containerd = contender::containerd(&host, &scratch, &images)?;
        for (name, handler) in [("containerd + runc", "runc"), ("containerd + crun", "crun")] {
            columns.push(runtime.block_on(measure(name, &containerd, handler, &images, scale))?);
        }
    }
    {
        let knode = contender::knode(&host, &scratch, binary)?;
        columns.push(runtime.block_on(measure("knode", &knode, "", &images, scale))?);
    }
    print!("{}", report::table(&columns, scale.bulks));
    Ok(())
}

async fn measure(
    name: &'static str,
    contender: &Contender,
    handler: &str,
    images: &Images,
    scale: &Scale,
) -> anyhow::Result<Column> {
    eprintln!("measuring {name}");
    let of = |what: &'static str| move || format!("{name}: {what}");
    let engine = contender.client().await.with_context(of("connect"))?;
    pods::pull(&engine, &images.small)
        .await
        .with_context(of("pull"))?;
    let mut column = Column::new(name);
    tokio::time::sleep(SETTLE).await;
    column.set("daemon", contender.memory().daemon);
    let bench = pods::Bench {
        engine: &engine,
        handler,
        image: &images.small,
        logs: contender.logs(),
    };
    one_by_one(&bench, scale.singles, scale.commands, &mut column, "")
        .await
        .with_context(of("one pod"))?;
    let mut pulls = Vec::new();
    for _ in 0..scale.pulls {
        pulls.push(
            pods::pull(&engine, &images.large)
                .await
                .with_context(of("pull"))?,
        );
        pods::forget(&engine, &images.large)
            .await
            .with_context(of("remove an image"))?;
    }
    column.set_median("pull", pulls);
    for count in scale.bulks {
        bulk(&bench, contender, *count, scale, &mut column)
            .await
            .with_context(of("many pods"))?;
    }
    Ok(column)
}

/// Pods one after another, and commands in one, beside whatever is there; `beside` ends the names of the rows.
async fn one_by_one(
    bench: &pods::Bench<'_>,
    count: usize,
    commands: usize,
    column: &mut Column,
    beside: &str,
) -> anyhow::Result<()> {
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    for n in 0..count {
        let (pod, laps) = bench.start(&format!("single-{n}")).await.context("start a pod")?;
        starts.push(laps);
        ends.push(bench.end(pod).await.context("end a pod")?);
    }
    for (what, all) in [("start", starts), ("end", ends)] {
        eprintln!("{what}{beside}:{}", report::calls(&all));
        let totals = all.iter().map(pods::Laps::total).collect();
        column.set_median(&format!("{what}{beside}"), totals);
    }
    let commands = bench.commands(commands).await.context("run commands")?;
    column.set_median(&format!("exec{beside}"), commands);
    Ok(())
}

/// So many pods at once: how long they take, what they take, and how long one more takes.
async fn bulk(
    bench: &pods::Bench<'_>,
    contender: &Contender,
    count: usize,
    scale: &Scale,
    column: &mut Column,
) -> anyhow::Result<()> {
    let (pods, taken) = bench.start_many(count).await?;
    column.set(&format!("start all {count}"), taken.as_secs_f64());
    tokio::time::sleep(SETTLE).await;
    let memory = contender.memory();
    column.set(&format!("daemon {count}"), memory.daemon);
    column.set(&format!("pod {count}"), memory.pods / count as f64);
    if count > 1 {
        let beside = format!(" beside {count}");
        one_by_one(bench, scale.beside, scale.commands, column, &beside).await?;
    }
    let taken = bench.end_many(pods).await?;
    column.set(&format!("end all {count}"), taken.as_secs_f64());
    Ok(())
}
