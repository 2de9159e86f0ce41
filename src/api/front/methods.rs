//! The methods of the descriptors that the service is built with.

use crate::api::proto::FILE_DESCRIPTOR_SET;
use prost_reflect::{DescriptorError, DescriptorPool, MessageDescriptor};
use std::{collections::HashMap, sync::Arc};

/// How many answers a call gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answers {
    One,
    Stream,
}

/// A method with one request message.
#[derive(Clone, Debug)]
pub(super) struct Method {
    pub(super) input: MessageDescriptor,
    pub(super) output: MessageDescriptor,
    pub(super) answers: Answers,
}

/// By path.
#[derive(Debug)]
pub(in crate::api) struct Methods(HashMap<String, Arc<Method>>);

impl Methods {
    /// # Errors
    /// When the compiled-in descriptors are invalid.
    pub(in crate::api) fn new() -> Result<Self, DescriptorError> {
        let mut pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET)?;
        pool.decode_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)?;
        // For the details of errors.
        pool.decode_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)?;
        let methods = pool.services().flat_map(|service| {
            let methods: Vec<_> = service.methods().collect();
            methods.into_iter().filter(|method| !method.is_client_streaming()).map(move |method| {
                let path = format!("/{}/{}", service.full_name(), method.name());
                let answers = if method.is_server_streaming() { Answers::Stream } else { Answers::One };
                (path, Arc::new(Method { input: method.input(), output: method.output(), answers }))
            })
        });
        Ok(Self(methods.collect()))
    }

    pub(super) fn find(&self, path: &str) -> Option<&Arc<Method>> {
        self.0.get(path)
    }
}
