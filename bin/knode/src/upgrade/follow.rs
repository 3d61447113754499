//! Waiting for a daemon's successor; pure.

use super::life::Life;

/// What is seen of the data directory's daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The process that holds the lock.
    pub holder: Option<i32>,
    /// What it says of itself.
    pub life: Option<Life>,
    /// How the process that was started for it ended, if it has.
    pub ended: Option<String>,
}

/// How far the exchange is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The old process ends.
    Ending { old: i32 },
    /// Nobody runs: somebody must start, or is about to.
    Between,
    /// A new process runs, and is not ready yet.
    Starting { pid: i32 },
    /// The new process is ready.
    Ready(Life),
    /// The new process has ended.
    Failed(String),
}

impl Stage {
    /// Whether nothing more comes.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Ready(_) | Self::Failed(_))
    }

    /// The stage after what was seen.
    pub fn step(self, seen: &Seen) -> Self {
        match self {
            Self::Ending { old } if seen.holder == Some(old) => Self::Ending { old },
            Self::Ending { .. } | Self::Between => match (seen.holder, &seen.ended) {
                (Some(pid), _) => Self::started(pid, seen),
                (None, Some(how)) => Self::Failed(how.clone()),
                (None, None) => Self::Between,
            },
            Self::Starting { pid } => match seen.holder {
                Some(holder) if holder == pid => Self::started(pid, seen),
                Some(other) => Self::Failed(format!(
                    "process {pid} has ended, and process {other} was started"
                )),
                None => Self::Failed(match &seen.ended {
                    Some(how) => how.clone(),
                    None => format!("process {pid} has ended"),
                }),
            },
            last => last,
        }
    }

    fn started(pid: i32, seen: &Seen) -> Self {
        match &seen.life {
            Some(life) if life.ready && life.pid == pid => Self::Ready(life.clone()),
            _ => Self::Starting { pid },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(pid: i32, ready: bool) -> Life {
        Life {
            pid,
            version: "0.1.0".into(),
            since: jiff::Timestamp::UNIX_EPOCH,
            ready,
        }
    }

    fn seen(holder: Option<i32>, life: Option<Life>, ended: Option<&str>) -> Seen {
        Seen {
            holder,
            life,
            ended: ended.map(str::to_owned),
        }
    }

    fn run(steps: &[Seen]) -> Stage {
        steps
            .iter()
            .fold(Stage::Ending { old: 1 }, |stage, seen| stage.step(seen))
    }

    #[test]
    fn the_new_one_is_ready() {
        let steps = [
            seen(Some(1), Some(life(1, true)), None),
            seen(None, None, None),
            seen(Some(2), None, None),
            seen(Some(2), Some(life(2, false)), None),
            seen(Some(2), Some(life(2, true)), None),
        ];
        assert_eq!(run(&steps[..1]), Stage::Ending { old: 1 });
        assert_eq!(run(&steps[..2]), Stage::Between);
        assert_eq!(run(&steps[..4]), Stage::Starting { pid: 2 });
        assert_eq!(run(&steps), Stage::Ready(life(2, true)));
        // The old one's answer, come late, counts for nobody.
        let late = [seen(None, None, None), seen(Some(2), Some(life(1, true)), None)];
        assert_eq!(run(&late), Stage::Starting { pid: 2 });
    }

    #[test]
    fn the_new_one_ends() {
        let at_once = [seen(None, None, None), seen(None, None, Some("exit status: 1"))];
        assert_eq!(run(&at_once), Stage::Failed("exit status: 1".into()));
        let later = [seen(Some(2), None, None), seen(None, None, None)];
        assert_eq!(run(&later), Stage::Failed("process 2 has ended".into()));
        let again = [seen(Some(2), None, None), seen(Some(3), None, None)];
        assert!(matches!(run(&again), Stage::Failed(how) if how.contains("process 3")));
    }
}
