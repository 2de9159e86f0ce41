//! Client commands and the development stack; talks to the service through its public gRPC only.
