//! Macros for a table of metrics: a row per metric gives the struct field, its registration, its accessor and its
//! initial series.

use std::borrow::Cow;

/// A label value: a code of an enum, or the name of an endpoint or signer.
pub(super) type LabelValue = Cow<'static, str>;
pub(super) type Labels<const N: usize> = [(&'static str, LabelValue); N];

/// Enums of label values. `ALL` is for series that exist from the start.
macro_rules! label_values {
    ($($(#[$doc:meta])* $name:ident { $($variant:ident = $value:literal),+ $(,)? })+) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum $name { $($variant),+ }

        impl $name {
            #[allow(dead_code, reason = "series of some labels appear with the first observation")]
            pub(in crate::telemetry) const ALL: [Self; [$($value),+].len()] = [$(Self::$variant),+];

            pub(crate) fn code(self) -> &'static str {
                match self { $(Self::$variant => $value),+ }
            }
        }

        impl From<$name> for $crate::telemetry::metrics::family::LabelValue {
            fn from(value: $name) -> Self {
                Self::Borrowed(value.code())
            }
        }
    )+ };
}

/// Rows of the form `name(label: Type = initial values): Kind = constructor, in unit, "help";`. Labels, initial
/// values, constructor and unit are optional.
macro_rules! metrics_table {
    ($(#[$doc:meta])* $table:ident { $($name:ident $(($($label:ident: $value:ty $(= $initial:expr)?),+))?:
        $kind:ident $(= $new:expr)?, $(in $unit:expr,)? $help:literal;)+ }) => {
        $(#[$doc])*
        pub(crate) struct $table {
            $(pub(in crate::telemetry) $name: metrics_table!(@type $kind $($($label)+)?)),+
        }

        impl $table {
            pub(super) fn register(registry: &mut Registry) -> Self {
                let table = Self { $($name: metrics_table!(@new $kind $(= $new)? $(; $($label)+)?)),+ };
                $(metrics_table!(@for [$($($label $(= $initial)?),+)?] drop(table.$name($($($label),+)?)));)+
                $(metrics_table!(@register registry, stringify!($name), $help, table.$name.clone() $(, $unit)?);)+
                table
            }

            $(metrics_table!(@accessor $name $kind $($($label: $value),+)?);)+
        }
    };
    (@type $kind:ident) => { $kind };
    (@type $kind:ident $($label:ident)+) => { Family<Labels<{ [$(stringify!($label)),+].len() }>, $kind> };
    (@new $kind:ident = $new:expr) => { $new };
    (@new $kind:ident $(; $($label:ident)+)?) => { Default::default() };
    (@register $registry:expr, $name:expr, $help:expr, $metric:expr) => {
        $registry.register($name, $help, $metric)
    };
    (@register $registry:expr, $name:expr, $help:expr, $metric:expr, $unit:expr) => {
        $registry.register_with_unit($name, $help, $unit, $metric)
    };
    (@accessor $name:ident $kind:ident) => {};
    (@accessor $name:ident $kind:ident $($label:ident: $value:ty),+) => {
        pub(in crate::telemetry) fn $name(&self, $($label: impl Into<$value>),+) -> $kind {
            self.$name.get_or_create_owned(&[$((stringify!($label), LabelValue::from(Into::<$value>::into($label)))),+])
        }
    };
    (@for [] $body:expr) => {};
    (@for [$label:ident = $all:expr] $body:expr) => { for $label in $all { $body; } };
    (@for [$label:ident = $all:expr, $($rest:tt)+] $body:expr) => {
        for $label in $all { metrics_table!(@for [$($rest)+] $body); }
    };
    (@for [$($open:tt)+] $body:expr) => {};
}

pub(super) use {label_values, metrics_table};
