//! Enums whose variants have a label: the words that stand for them in logs, responses and tests.

/// Declares such an enum: after each variant stands its label.
macro_rules! labelled {
    ($(#[$about:meta])* $vis:vis enum $Name:ident { $($(#[$meaning:meta])* $Variant:ident => $label:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        $vis enum $Name {
            $($(#[$meaning])* $Variant,)+
        }

        impl $Name {
            /// Its label.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$Variant => $label,)+
                }
            }
        }

        impl std::fmt::Display for $Name {
            fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str(self.as_str())
            }
        }
    };
}
