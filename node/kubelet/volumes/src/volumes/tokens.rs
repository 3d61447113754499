//! Tokens of pods: held while they are fresh, asked of the API when they are not.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::Volumes;
use crate::objects::{ObjectError, Token, TokenQuery};
use crate::token::Tokens;

/// The tokens of all pods by what they are for.
#[derive(Default)]
pub(super) struct Shelves {
    /// Those in files: each has to be replaced in its time.
    pub files: Mutex<Tokens>,
    /// Those that are asked for when somebody needs them: nobody waits for their end.
    calls: Mutex<Tokens>,
}

impl Shelves {
    /// Forgets the tokens of a pod.
    pub(super) fn forget(&self, pod_uid: &str) {
        lock(&self.files).forget(pod_uid);
        lock(&self.calls).forget(pod_uid);
    }

    /// When the first token in a file of the pod has to be replaced.
    pub(super) fn next_refresh(&self, pod_uid: &str) -> Option<Timestamp> {
        lock(&self.files).next_refresh(pod_uid)
    }
}

impl Volumes {
    /// A token that goes into no file, for as long as the pod is here the same until most of its life is over.
    ///
    /// # Errors
    /// The API's answer, when no valid token is left.
    pub async fn token_for_call(&self, query: TokenQuery, now: Timestamp) -> Result<Token, ObjectError> {
        self.token_from(&self.tokens.calls, query, now).await
    }

    /// A token out of `shelf`, or a new one that is put there.
    pub(super) async fn token_from(
        &self,
        shelf: &Mutex<Tokens>,
        query: TokenQuery,
        now: Timestamp,
    ) -> Result<Token, ObjectError> {
        let held = lock(shelf).fresh(&query, now);
        if let Some(token) = held {
            return Ok(token);
        }
        match self.objects.token(&query).await {
            Ok(token) => {
                lock(shelf).keep(query, token.clone(), now);
                Ok(token)
            }
            Err(error) => {
                let mut tokens = lock(shelf);
                let valid = tokens.valid(&query, now);
                tokens.put_off(&query, now);
                valid.ok_or(error)
            }
        }
    }
}

fn lock(shelf: &Mutex<Tokens>) -> MutexGuard<'_, Tokens> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}
