//! Values of arguments that are one of a list.

use crate::api::proto::{Finality, State, WaitFor};
use clap::ValueEnum;

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitForArg {
    /// Stored on the server's disk; survives a crash
    Accepted,
    /// A node has accepted the transaction
    Submitted,
    /// In a block
    Included,
    /// In a block at the server's confirmation depth
    Confirmed,
    /// The block's data is on Ethereum
    Safe,
    /// That Ethereum block is final
    Finalized,
}

impl From<WaitForArg> for WaitFor {
    fn from(level: WaitForArg) -> Self {
        match level {
            WaitForArg::Accepted => Self::Accepted,
            WaitForArg::Submitted => Self::Submitted,
            WaitForArg::Included => Self::Included,
            WaitForArg::Confirmed => Self::Confirmed,
            WaitForArg::Safe => Self::Safe,
            WaitForArg::Finalized => Self::Finalized,
        }
    }
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum StateArg {
    /// Accepted, not sent yet
    Queued,
    /// A node has accepted the transaction
    Submitted,
    /// In a block that is not at the confirmation depth yet
    Included,
    /// In a block at the confirmation depth
    Confirmed,
    /// Cannot succeed without a fix
    Failed,
}

impl From<StateArg> for State {
    fn from(state: StateArg) -> Self {
        match state {
            StateArg::Queued => Self::Queued,
            StateArg::Submitted => Self::Submitted,
            StateArg::Included => Self::Included,
            StateArg::Confirmed => Self::Confirmed,
            StateArg::Failed => Self::Failed,
        }
    }
}

/// What the case of a file is taken from.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum FinalityArg {
    /// The newest block, which a reorg may remove
    Unsafe,
    /// The block's data is on Ethereum
    Safe,
    /// That Ethereum block is final
    Finalized,
}

impl From<FinalityArg> for Finality {
    fn from(level: FinalityArg) -> Self {
        match level {
            FinalityArg::Unsafe => Self::Unsafe,
            FinalityArg::Safe => Self::Safe,
            FinalityArg::Finalized => Self::Finalized,
        }
    }
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum CaseFrom {
    /// Name of the file without its last extension
    Name,
    /// Name of the folder that the file is in
    Folder,
}
