use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::Call;
use crate::error::{Error, Result};

/// Runs a command by `sh`, as upstream documents; what it said, without blanks at its ends.
///
/// # Errors
/// [`Error::Command`] with what it said.
pub(crate) async fn run(call: &Call) -> Result<String> {
    let failed = |source| Error::CommandStart {
        command: call.command.clone(),
        source,
    };
    let mut child = Command::new("sh")
        .args(["-c", &call.command])
        .envs(call.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        // A command that does not read what it is told ends without it.
        let _ = input.write_all(call.input.as_bytes()).await;
    }
    let output = child.wait_with_output().await.map_err(failed)?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    if output.status.success() {
        tracing::info!(command = call.command, output = said, "Ran command");
        Ok(said)
    } else {
        Err(Error::Command {
            command: call.command.clone(),
            status: output.status,
            output: said,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(command: &str) -> Call {
        Call {
            command: command.into(),
            environment: vec![("SUBNET", "10.5.2.0/24".into())],
            input: "12:34\n".into(),
        }
    }

    #[tokio::test]
    async fn a_command_has_its_environment_and_input() {
        let said = run(&call("read MAC; echo \"$SUBNET at $MAC\" | tr a A; echo err >&2")).await;
        assert_eq!(said.unwrap(), "10.5.2.0/24 At 12:34\nerr");
        assert_eq!(run(&call("true")).await.unwrap(), "", "it need not read");
    }

    #[tokio::test]
    async fn a_failed_command_says_how() {
        let error = run(&call("echo no; exit 3")).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "command \"echo no; exit 3\" ended with exit status: 3: no"
        );
    }
}
