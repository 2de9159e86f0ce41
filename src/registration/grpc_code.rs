//! The status codes of gRPC, for areas that do not depend on a gRPC library
//! (<https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>).

/// In the order of their numbers, from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GrpcCode {
    Ok,
    Cancelled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
}

/// Each code with its name in the specification, and in lower case as a metric label.
const TABLE: [(GrpcCode, &str, &str); 17] = [
    (GrpcCode::Ok, "OK", "ok"),
    (GrpcCode::Cancelled, "CANCELLED", "cancelled"),
    (GrpcCode::Unknown, "UNKNOWN", "unknown"),
    (GrpcCode::InvalidArgument, "INVALID_ARGUMENT", "invalid_argument"),
    (GrpcCode::DeadlineExceeded, "DEADLINE_EXCEEDED", "deadline_exceeded"),
    (GrpcCode::NotFound, "NOT_FOUND", "not_found"),
    (GrpcCode::AlreadyExists, "ALREADY_EXISTS", "already_exists"),
    (GrpcCode::PermissionDenied, "PERMISSION_DENIED", "permission_denied"),
    (GrpcCode::ResourceExhausted, "RESOURCE_EXHAUSTED", "resource_exhausted"),
    (GrpcCode::FailedPrecondition, "FAILED_PRECONDITION", "failed_precondition"),
    (GrpcCode::Aborted, "ABORTED", "aborted"),
    (GrpcCode::OutOfRange, "OUT_OF_RANGE", "out_of_range"),
    (GrpcCode::Unimplemented, "UNIMPLEMENTED", "unimplemented"),
    (GrpcCode::Internal, "INTERNAL", "internal"),
    (GrpcCode::Unavailable, "UNAVAILABLE", "unavailable"),
    (GrpcCode::DataLoss, "DATA_LOSS", "data_loss"),
    (GrpcCode::Unauthenticated, "UNAUTHENTICATED", "unauthenticated"),
];

impl GrpcCode {
    /// As the specification does, a number that is not in the table is `Unknown`.
    pub fn from_number(number: i64) -> Self {
        let row = usize::try_from(number).ok().and_then(|number| TABLE.get(number));
        row.map_or(Self::Unknown, |(code, ..)| *code)
    }

    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.into_iter().map(|(code, ..)| code)
    }

    pub fn number(self) -> i32 {
        self as i32
    }

    pub fn name(self) -> &'static str {
        TABLE[self as usize].1
    }

    pub fn label(self) -> &'static str {
        TABLE[self as usize].2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_numbers() {
        for (number, (code, name, label)) in (0_i32..).zip(TABLE) {
            assert_eq!((code.number(), code.name(), code.label()), (number, name, label));
            assert_eq!((GrpcCode::from_number(number.into()), name.to_lowercase()), (code, label.to_owned()));
        }
        assert_eq!([GrpcCode::from_number(-1), GrpcCode::from_number(17)], [GrpcCode::Unknown; 2]);
    }
}
