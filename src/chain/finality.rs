//! The safe and the finalized head, each read by its own tag.

use super::{BlockTag, CallError, Chain, Header};
use crate::telemetry::events;

impl Chain {
    /// The newest safe and the newest finalized block; each `None` where no endpoint has it. An endpoint that offers
    /// only one of the tags is enough for that one.
    ///
    /// # Errors
    /// When no endpoint answers either.
    pub(crate) async fn finality_heads(&self) -> Result<(Option<Header>, Option<Header>), CallError> {
        let heads = tokio::join!(self.finality_head(BlockTag::Safe), self.finality_head(BlockTag::Finalized));
        match heads {
            (Err(error), Err(_)) => Err(error),
            (safe, finalized) => Ok((safe.ok().flatten(), finalized.ok().flatten())),
        }
    }

    async fn finality_head(&self, tag: BlockTag) -> Result<Option<Header>, CallError> {
        match self.read_header(tag).await {
            Err(error) if error.is_refusal() => {
                if self.missing_tags.lock().insert(tag) {
                    events::finality_tag_refused(&tag.to_param(), &error.to_string());
                }
                Ok(None)
            }
            header => header,
        }
    }
}
