//! What turns the list of triggers in `mod.rs` into the types that recipes and manifests are written with.

use crate::error::{Error, Result};
use crate::picture::ImageLimits;
use crate::skip::Skip;
use crate::trigger::{Material, Unfit};
use image::RgbImage;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;

/// A pure function (picture, seed, settings) -> picture. Its fields are its settings as a manifest keeps them.
pub trait Trigger: Clone + PartialEq + Serialize + DeserializeOwned {
    /// As a recipe says it, where files are named by path; the trigger itself where it needs no file.
    type Settings: Clone + PartialEq + Serialize + DeserializeOwned + JsonSchema;

    /// The trigger that `settings` describe. Files come through `files`, which keeps them for the manifest.
    fn new(settings: &Self::Settings, files: &mut Files) -> Result<Self>;

    /// Whether the settings make sense on this frame, so that [`Trigger::apply`] can neither fail for them nor ask for absurd memory.
    fn check(&self, context: &Context) -> std::result::Result<(), Unfit>;

    /// Whether the pictures that it may be laid on have a say: in its settings, or in which of them are poisoned.
    fn settles(&self) -> bool {
        false
    }

    /// Settles what the settings leave to the pictures that it may be laid on, and says what a person should know of it.
    ///
    /// # Errors
    /// Pictures that the settings do not fit.
    fn settle(&mut self, _pictures: &Framed) -> Result<Option<String>> {
        Ok(None)
    }

    /// Whether poisoned pairs must keep their captions (`Some(true)`), or must not; none where either will do.
    fn keeps_captions(&self) -> Option<bool> {
        None
    }

    /// Whether `picture`, on its frame, may be poisoned with it in training; the error says why not, after "it".
    fn suits(&self, _picture: &RgbImage) -> std::result::Result<(), String> {
        Ok(())
    }

    /// Lays the trigger on `picture`, which has the size of the frame. Only called where [`Trigger::check`] agrees.
    fn apply(&self, picture: RgbImage, context: &Context) -> std::result::Result<RgbImage, Skip>;
}

/// The pictures that a trigger may be laid on, each on the frame; those that cannot be read are left out.
pub struct Framed<'a> {
    visit: &'a Visit<'a>,
}

/// Calls its argument with every picture, and with whether it is of the target class.
type Visit<'a> = dyn Fn(&mut dyn FnMut(&RgbImage, bool)) + 'a;

impl<'a> Framed<'a> {
    pub fn new(visit: &'a Visit<'a>) -> Self {
        Framed { visit }
    }

    /// Looks at each picture, and whether it is of the target class.
    pub fn each(&self, look: &mut dyn FnMut(&RgbImage, bool)) {
        (self.visit)(look);
    }
}

/// What a trigger is laid on, beside the picture.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Side of the square frame.
    pub frame_pixels: u32,
    /// Seed of what differs from picture to picture.
    pub image_seed: u64,
    /// Pictures and grids that triggers refer to by their sha256.
    pub materials: &'a [Material],
}

impl<'a> Context<'a> {
    /// The material with this digest.
    pub fn material(&self, sha256: &str) -> std::result::Result<&'a Material, Unfit> {
        let found = self.materials.iter().find(|material| material.sha256() == sha256);
        found.ok_or_else(|| {
            Unfit::new(format!("the material with the sha256 {sha256} is missing"), "use the manifest as it was made")
        })
    }
}

/// The files of one plan's triggers. Together they may have as many pixels as one picture of the data, since all of them stay in memory.
#[derive(Debug, Clone)]
pub struct Files {
    limits: ImageLimits,
    read: Vec<Material>,
}

impl Files {
    pub fn new(limits: ImageLimits) -> Self {
        Files { limits, read: Vec::new() }
    }

    /// Reads an image file.
    pub fn picture(&mut self, path: &Path) -> Result<&Material> {
        self.keep(Material::read_picture(path, self.left())?)
    }

    /// Reads a file of little-endian `f32`.
    pub fn grid(&mut self, path: &Path) -> Result<&Material> {
        self.keep(Material::read_grid(path, self.left())?)
    }

    /// All that was read, sorted by digest.
    pub fn into_materials(mut self) -> Vec<Material> {
        self.read.sort_by(|a, b| a.sha256().cmp(b.sha256()));
        self.read
    }

    pub fn materials(&self) -> &[Material] {
        &self.read
    }

    /// What the next file may have.
    fn left(&self) -> ImageLimits {
        Material::limits_beside(&self.read, self.limits)
    }

    fn keep(&mut self, material: Material) -> Result<&Material> {
        let at = match self.read.iter().position(|known| known.sha256() == material.sha256()) {
            Some(at) => at,
            None => {
                self.read.push(material);
                self.read.len() - 1
            }
        };
        self.read.get(at).ok_or_else(|| Error::internal("a material was lost"))
    }
}

/// `module: Kind(Type)` for each trigger: declares the module, and makes of the list the kinds of a manifest (tagged by `name`) and the
/// keys of a recipe's attack.
macro_rules! triggers {
    ($($module:ident: $kind:ident($trigger:ident)),+ $(,)?) => {
        $(mod $module; pub use $module::$trigger;)+

        /// A trigger's kind and settings, as a manifest keeps them.
        #[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
        #[serde(tag = "name", rename_all = "snake_case")]
        pub enum TriggerKind { $($kind($trigger)),+ }

        impl TriggerKind {
            /// [`Trigger::check`] of the kind.
            pub fn check(&self, context: &Context) -> std::result::Result<(), Unfit> {
                match self { $(TriggerKind::$kind(trigger) => trigger.check(context)),+ }
            }

            /// [`Trigger::settle`] of the kind.
            pub fn settle(&mut self, pictures: &Framed) -> Result<Option<String>> {
                match self { $(TriggerKind::$kind(trigger) => trigger.settle(pictures)),+ }
            }

            /// [`Trigger::keeps_captions`] of the kind.
            pub fn keeps_captions(&self) -> Option<bool> {
                match self { $(TriggerKind::$kind(trigger) => trigger.keeps_captions()),+ }
            }

            /// [`Trigger::settles`] of the kind.
            pub fn settles(&self) -> bool {
                match self { $(TriggerKind::$kind(trigger) => trigger.settles()),+ }
            }

            /// [`Trigger::suits`] of the kind.
            pub fn suits(&self, picture: &RgbImage) -> std::result::Result<(), String> {
                match self { $(TriggerKind::$kind(trigger) => trigger.suits(picture)),+ }
            }

            /// [`Trigger::apply`] of the kind.
            pub fn apply(&self, picture: RgbImage, context: &Context) -> std::result::Result<RgbImage, Skip> {
                match self { $(TriggerKind::$kind(trigger) => trigger.apply(picture, context)),+ }
            }
        }

        /// A trigger as a recipe says it.
        #[derive(Debug, Clone, PartialEq)]
        pub enum TriggerSettings { $($kind(<$trigger as Trigger>::Settings)),+ }

        impl TriggerSettings {
            /// The keys of a recipe, in the order in which triggers are laid on.
            pub const NAMES: &[&str] = &[$(stringify!($module)),+];

            pub fn name(&self) -> &'static str {
                match self { $(TriggerSettings::$kind(_) => stringify!($module)),+ }
            }

            /// The trigger; its files are read through `files`.
            pub fn trigger(&self, files: &mut Files) -> Result<TriggerKind> {
                match self { $(TriggerSettings::$kind(settings) => $trigger::new(settings, files).map(TriggerKind::$kind)),+ }
            }

            /// The key of each trigger with the schema of its settings.
            fn schemas(generator: &mut schemars::SchemaGenerator) -> Vec<(&'static str, schemars::Schema)> {
                vec![$((stringify!($module), generator.subschema_for::<<$trigger as Trigger>::Settings>())),+]
            }

            /// The value of the key `name`; none where no trigger is called so.
            fn read<'de, M: serde::de::MapAccess<'de>>(name: &str, map: &mut M) -> std::result::Result<Option<Self>, M::Error> {
                match name {
                    $(stringify!($module) => map.next_value().map(|settings| Some(TriggerSettings::$kind(settings))),)+
                    _ => Ok(None),
                }
            }

            fn write<M: serde::ser::SerializeMap>(&self, map: &mut M) -> std::result::Result<(), M::Error> {
                match self { $(TriggerSettings::$kind(settings) => map.serialize_entry(stringify!($module), settings)),+ }
            }
        }
    };
}
