//! `images --watch`: how far pulls are, told by the engine that does them.

use std::collections::HashMap;
use std::time::Duration;

use knode_images::{LayerState, PullEvent, PullPhase, PullStatus, Pulls};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::cli::Listing;
use super::table::bytes;
use crate::control::{self, Answer, Request};
use crate::output::TableFormat;

/// Bytes are counted without a word: while there are pulls they are looked at so often.
const PACE: Duration = Duration::from_millis(200);

/// What is told at a time.
#[derive(Debug, Serialize, Deserialize)]
enum Seen {
    Running(Vec<PullStatus>),
    Happened(PullEvent),
}

/// Tells a client, one answer a line, until it leaves.
pub async fn serve(stream: impl AsyncRead + AsyncWrite, pulls: &Pulls) -> std::io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut events = pulls.subscribe();
    loop {
        let running = pulls.running();
        let pace = async {
            match running.is_empty() {
                true => std::future::pending().await,
                false => tokio::time::sleep(PACE).await,
            }
        };
        let mut gone = [0];
        let seen = tokio::select! {
            event = events.recv() => event.ok().map(Seen::Happened),
            () = pace => Some(Seen::Running(running.clone())),
            // A client has nothing more to say: this is its end.
            _ = reader.read(&mut gone) => return Ok(()),
        };
        if let Some(seen) = seen {
            let answer: Answer = Ok(vec![serde_json::to_string(&seen)?]);
            let mut line = serde_json::to_vec(&answer)?;
            line.push(b'\n');
            writer.write_all(&line).await?;
        }
    }
}

/// Prints what the engine of a data directory tells, until interrupted.
pub async fn run(listing: &Listing) -> anyhow::Result<()> {
    let socket = listing.place.layout().control_socket();
    let mut shown = HashMap::new();
    let format = listing.output;
    control::follow(&socket, &Request::WatchPulls, |lines| {
        for text in lines {
            match (serde_json::from_str(&text), format) {
                (Ok(_), TableFormat::Json) => println!("{text}"),
                (Ok(seen), TableFormat::Table) => {
                    show(&seen, &mut shown).iter().for_each(|line| println!("{line}"))
                }
                (Err(error), _) => eprintln!("not understood: {error}"),
            }
        }
    })
    .await?;
    anyhow::bail!("the engine has ended")
}

/// The lines for what was not shown before.
fn show(seen: &Seen, shown: &mut HashMap<u64, String>) -> Vec<String> {
    match seen {
        Seen::Running(pulls) => {
            let lines = pulls.iter().filter_map(|pull| {
                let line = progress(pull);
                let before = shown.insert(pull.id, line.clone());
                (before.as_ref() != Some(&line)).then_some(line)
            });
            lines.collect()
        }
        Seen::Happened(PullEvent::Ended {
            id,
            image,
            bytes: count,
            elapsed,
            error,
        }) => {
            shown.remove(id);
            let seconds = elapsed.as_secs_f64();
            vec![match error {
                None => format!("{image}: done, {} in {seconds:.1} s", bytes(*count)),
                Some(error) => format!("{image}: failed: {error}"),
            }]
        }
        Seen::Happened(PullEvent::Started { image, .. }) => vec![format!("{image}: started")],
        Seen::Happened(PullEvent::Retried { reason, .. }) => vec![format!("taken up again: {reason}")],
        Seen::Happened(PullEvent::Resolved { .. } | PullEvent::Layer { .. }) => Vec::new(),
    }
}

fn progress(pull: &PullStatus) -> String {
    let phase = match pull.phase {
        PullPhase::Resolving => "asking the registry",
        PullPhase::Fetching => "fetching",
        PullPhase::Storing => "storing",
    };
    let (fetched, size) = pull.bytes();
    let ready = |state| matches!(state, LayerState::Present | LayerState::Done);
    let done = pull.layers.iter().filter(|layer| ready(layer.state)).count();
    let (image, all) = (&pull.image, pull.layers.len());
    format!(
        "{image}: {phase}, {} of {}, {done} of {all} layers",
        bytes(fetched),
        bytes(size)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pull(fetched: u64) -> PullStatus {
        serde_json::from_value(serde_json::json!({
            "id": 1, "image": "r/a:1", "started": {"secs_since_epoch": 0, "nanos_since_epoch": 0},
            "phase": "fetching", "retries": 0,
            "layers": [
                {"digest": format!("sha256:{:064}", 0), "size": 2_000_000, "fetched": fetched, "state": "fetching"},
                {"digest": format!("sha256:{:064}", 1), "size": 5, "fetched": 0, "state": "present"},
            ],
        }))
        .unwrap()
    }

    #[test]
    fn a_line_comes_for_every_change() {
        let mut shown = HashMap::new();
        let lines = show(&Seen::Running(vec![pull(1_000_000)]), &mut shown);
        assert_eq!(lines, ["r/a:1: fetching, 1.0MB of 2.0MB, 1 of 2 layers"]);
        assert!(show(&Seen::Running(vec![pull(1_000_000)]), &mut shown).is_empty());
        assert_eq!(show(&Seen::Running(vec![pull(1_500_000)]), &mut shown).len(), 1);
        let ended = PullEvent::Ended {
            id: 1,
            image: "r/a:1".into(),
            bytes: 2_000_000,
            elapsed: Duration::from_millis(1500),
            error: None,
        };
        assert_eq!(
            show(&Seen::Happened(ended), &mut shown),
            ["r/a:1: done, 2.0MB in 1.5 s"]
        );
        assert!(shown.is_empty());
    }

    #[tokio::test]
    async fn a_client_that_leaves_ends_the_telling() {
        let (here, there) = tokio::io::duplex(64);
        let pulls = Pulls::default();
        let telling = tokio::spawn(async move { serve(there, &pulls).await });
        drop(here);
        telling.await.unwrap().unwrap();
    }
}
