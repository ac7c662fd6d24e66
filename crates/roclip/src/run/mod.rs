//! Runs: a recipe becomes data, a trainer and a run folder, and what the trainer learns is measured and written down there.

mod agreement;
mod began_with;
mod begins;
mod between_steps;
mod build;
mod caller;
mod caption_attack;
mod caption_eval;
mod clean;
mod clock;
mod context;
mod details;
mod device;
mod earlier_list;
mod feature_array;
mod folder;
mod follow;
mod forecast;
mod inputs;
mod instruct;
mod instruct_backdoor;
mod journal;
mod kind;
mod left_out;
mod lines;
mod log;
mod looked;
mod looked_at;
mod memory;
mod named;
mod numbers;
mod ordering;
mod pace;
mod pair_features;
mod patch;
mod picture_files;
mod pictures;
mod plain;
mod prepare;
mod products;
mod prompt;
mod resume;
mod session;
mod skips;
mod start;
mod stop;
mod summary;
mod supervision;
mod suspects;
mod tensorboard;
mod together;
mod unchanged;
mod warnings;
mod written_poison;

pub use agreement::can_share;
pub use begins::Seen;
pub use caller::Caller;
pub use caption_attack::{AttackResults, AttackSettings, CaptionAttack, attacked_pictures};
pub use caption_eval::{CaptionEval, captioner_recipe, evaluate_captions};
pub use details::read_details;
pub use device::{device, machine, machine_of};
pub use earlier_list::EarlierList;
pub use folder::open_lock;
pub use follow::follow;
pub use forecast::{Forecast, check};
pub use inputs::{
    FlaggedOfAttack, INPUT_LEVEL, InputJudged, InputLook, InputMethodFlags, InputPictures, InputScore, KnownClean,
    SuspectInputs, TrustedInputs, TrustedPictures, Unread, suspect_inputs, trusted_pictures,
};
pub use instruct::{AnswerLine, InstructData, InstructSettings, InstructSummary, train_instruct};
pub use instruct_backdoor::{
    BackdoorResults, BackdoorSettings, BackdoorStudy, Cell, DomainShift, DomainSource, Example, Filtered,
    Generalisation, ShiftSize, auroc, kolmogorov_smirnov, triggered_pictures, verify_instructions,
};
pub use kind::{LOCK, check_outside_of_runs, check_run_folder, continued_by, foreign_file};
pub use left_out::{Dropped, PoisonLeftOut};
pub use lines::{EpochLine, read_epochs};
pub use looked::{Before, Drop, Looked, check_list};
pub use looked_at::{LookedAt, TrustedPairs, also_looked_at};
pub use numbers::read_measured;
pub use ordering::{COMBINED, Methods};
pub use pair_features::PairFeatures;
pub use patch::{Surrogate, search_patch};
pub use pictures::{Figure, Gallery, kept_pictures, picture_url};
pub use prepare::{Prepared, prepare_clean_data, prepare_data, prepare_training};
pub use products::{check_inputs_folder, check_report_folder, check_suspects_folder};
pub use prompt::{
    CountsAs, Inspected, MeasuredPrompts, check_inspections, inspect_prompts, kept_detection, measure_prompts,
    train_prompts,
};
pub use resume::Start;
pub use session::train;
pub use stop::{Asked, Saved, Stop};
pub use summary::{Effect, Inheritance, InheritanceFigures, PhaseEvaluation, ReboundPoint, Summary};
pub use suspects::{Judged, MethodScores, Suspects, suspects};
pub use torch_bridge::{check_version as check_torch_version, leave_at_once, torch_version};
pub use unchanged::{changes, check_unchanged};
pub use warnings::{never_matches, warnings};
pub use written_poison::unspoken_poison;
