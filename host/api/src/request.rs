//! Requests as types. [`request!`](crate::request) makes of one list of fields both the reading of a request and its
//! description in OpenAPI, and [`Field`] keeps the rule of a value beside the schema that tells of it: neither can be
//! changed without the other in sight, and `tests/tests/openapi.rs` tries every rule against a running host.

use utoipa::openapi::{
    Object, Required,
    path::{Parameter, ParameterBuilder, ParameterIn},
    schema::{ObjectBuilder, SchemaType, Type},
};
use wharf_domain::Invalid;

use crate::{
    error::ApiError,
    fields::{Fields, Given},
};

/// A type that can be read from a request's fields.
pub(crate) trait FromFields: Sized {
    /// Refuses with everything that is wrong, at once.
    fn from_fields(fields: Fields) -> Result<Self, ApiError>;
}

/// A kind of value: how it is read and how it is described. `Option` of one makes a field that may be left out.
pub(crate) trait Field: Sized {
    /// True if a request without it is refused.
    const REQUIRED: bool = true;

    /// Reads what was given.
    fn read(given: &Given) -> Result<Self, Invalid>;

    /// Says the same in JSON Schema.
    fn schema() -> ObjectBuilder;

    /// The value of the field of this name; `None` if it is missing or wrong, which the fields note.
    fn take(fields: &mut Fields, name: &'static str) -> Option<Self> {
        fields.required(name, Self::read)
    }
}

impl<T: Field> Field for Option<T> {
    const REQUIRED: bool = false;

    fn read(given: &Given) -> Result<Self, Invalid> {
        T::read(given).map(Some)
    }

    fn schema() -> ObjectBuilder {
        T::schema()
    }

    fn take(fields: &mut Fields, name: &'static str) -> Option<Self> {
        if fields.has(name) {
            fields.required(name, Self::read)
        } else {
            Some(None)
        }
    }
}

/// A field as a description needs it.
pub(crate) struct Member {
    name: &'static str,
    about: &'static str,
    required: bool,
    schema: ObjectBuilder,
}

impl Member {
    pub(crate) fn new<T: Field>(name: &'static str, about: &'static str) -> Self {
        Self {
            name,
            about,
            required: T::REQUIRED,
            schema: T::schema(),
        }
    }

    /// As a member of a body, where `null` counts as left out.
    fn property(self) -> Object {
        let mut property = self.schema.description(Some(self.about.trim())).build();
        if let (false, SchemaType::Type(kind)) = (self.required, property.schema_type.clone()) {
            property.schema_type = SchemaType::from_iter([kind, Type::Null]);
        }
        property
    }

    fn parameter(self) -> Parameter {
        let required = if self.required {
            Required::True
        } else {
            Required::False
        };
        let parameter = ParameterBuilder::new()
            .name(self.name)
            .parameter_in(ParameterIn::Query)
            .required(required);
        parameter
            .description(Some(self.about.trim()))
            .schema(Some(self.schema))
            .build()
    }
}

/// The schema of a body with these members.
pub(crate) fn body(about: &str, members: Vec<Member>) -> Object {
    let object = ObjectBuilder::new().description(Some(about.trim()));
    let filled = members.into_iter().fold(object, |object, member| {
        let (name, required) = (member.name, member.required);
        let object = object.property(name, member.property());
        if required {
            object.required(name)
        } else {
            object
        }
    });
    filled.build()
}

/// The parameters of a query with these members.
pub(crate) fn query(members: Vec<Member>) -> Vec<Parameter> {
    members.into_iter().map(Member::parameter).collect()
}

/// Declares a request: a struct whose fields have the names that clients use beside them.
macro_rules! request {
    (
        $(#[doc = $about:literal])*
        $visibility:vis struct $name:ident { $($(#[doc = $field_about:literal])* $field:ident $path:literal: $kind:ty,)* }
    ) => {
        $(#[doc = $about])*
        $visibility struct $name { $($(#[doc = $field_about])* pub(crate) $field: $kind,)* }

        impl $crate::request::FromFields for $name {
            fn from_fields(mut fields: $crate::fields::Fields) -> Result<Self, $crate::error::ApiError> {
                $(let $field = <$kind as $crate::request::Field>::take(&mut fields, $path);)*
                match ($($field,)*) {
                    // Each field was taken before any was looked at, so that the refusal names all that are wrong.
                    ($(Some($field),)*) => Ok(Self { $($field,)* }),
                    _ => Err(fields.refusal()),
                }
            }
        }

        impl $name {
            fn members() -> Vec<$crate::request::Member> {
                vec![$($crate::request::Member::new::<$kind>($path, concat!($($field_about),*)),)*]
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                $crate::request::body(concat!($($about),*), Self::members()).into()
            }
        }

        impl utoipa::ToSchema for $name {
            fn name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
        }

        impl utoipa::IntoParams for $name {
            fn into_params(
                // Ignored: as parameters these fields stand in the query alone.
                _: impl Fn() -> Option<utoipa::openapi::path::ParameterIn>,
            ) -> Vec<utoipa::openapi::path::Parameter> {
                $crate::request::query(Self::members())
            }
        }
    };
}
pub(crate) use request;
