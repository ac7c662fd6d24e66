//! All cells of a study in a folder: `backdoor.json` (settings), `cells.jsonl`, `manifests/`, `pictures/`, `results.json`.

use crate::attack::distinct;
use crate::attack::instruct::{InstructAttack, MaskRule};
use crate::error::{Error, IoContext, Result};
use crate::eval::trained_references;
use crate::instruct::{Item, Stored, VisionLanguage, load};
use crate::run::began_with::began_with;
use crate::run::folder::RunFolder;
use crate::run::instruct::{LEARNED_TESTS, SkipLimit, Tests, no_tests};
use crate::run::instruct_backdoor::cell::Bench;
use crate::run::instruct_backdoor::domain::Domain;
use crate::run::instruct_backdoor::{
    BackdoorResults, BackdoorSettings, Cell, DomainShift, ShiftSize, kolmogorov_smirnov,
};
use crate::run::kind::RunKind;
use crate::run::numbers::read_measured_lines;
use crate::run::picture_files::PICTURES;
use crate::run::stop::Stop;
use image::RgbImage;
use rand::seq::SliceRandom;
use roclip_data::artifact;
use roclip_data::caption_metrics::{Substitution, says, words};
use roclip_data::instruction::Wordings;
use roclip_data::progress::Task;
use roclip_data::random;
use roclip_data::skip::SkipReport;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tch::Device;

pub(super) const SETTINGS: &str = "backdoor.json";
const CELLS: &str = "cells.jsonl";
const MANIFESTS: &str = "manifests";
const RESULTS: &str = "results.json";

/// A study that is asked for.
pub struct BackdoorStudy<'a> {
    pub settings: BackdoorSettings,
    pub attacks: Vec<InstructAttack>,
    pub shifts: Vec<DomainShift>,
    pub folder: PathBuf,
    pub resume: bool,
    pub device: Device,
    pub stop: &'a Stop,
}

impl BackdoorStudy<'_> {
    /// Runs the cells that are not there yet.
    ///
    /// # Errors
    /// All that is wrong with settings and data before the first cell; later cells that were done are kept.
    pub fn run(&self, progress: &mut dyn FnMut(&str)) -> Result<BackdoorResults> {
        let settings = &self.settings;
        settings.check()?;
        // Where a study has been begun already, another process may be at work.
        let taken = RunFolder::take_existing(&self.folder, RunKind::Backdoor)?;
        let lines = self.goes_on_behind()?;
        let path = self.folder.join(CELLS);
        let mut cells: Vec<Cell> = read_measured_lines(&path, &lines, &Cell::impossible)?;
        let Stored { model, training, sha256: base_sha256, .. } = load(&settings.base, self.device)?;
        if !training.is_finished() {
            return Err(Error::file(
                &settings.base,
                format!("is not trained to its end: it is at step {} of {}", training.step, training.steps),
                "go on with the command that began it (`roclip caption instruct`) and --resume",
            ));
        }
        settings.search.check(Some(model.config().context))?;
        self.check(&model)?;
        let (mut tests, limit) = (self.tests()?, SkipLimit(settings.max_skip_fraction));
        let mut domains = self.domains(|shift| Domain::new(settings, shift, &model))?;
        let earlier: Option<Begun> =
            (!cells.is_empty()).then(|| artifact::read_json(&self.folder.join(SETTINGS))).transpose()?;
        let kept_apart = domains.iter().any(|(_, domain)| domain.note.is_some());
        if let Some(earlier) = earlier.as_ref().filter(|earlier| kept_apart && !earlier.is_of(&domains))
            && let Ok(whole) = self.domains(|shift| Domain::with_tests(settings, shift, &model))
            && earlier.is_of(&whole)
        {
            if !self.has_all(&cells) {
                return Err(Error::file(&self.folder, LEARNED_TESTS, "begin anew in another folder (--run)"));
            }
            progress(&format!(
                "warning: `{}` has all cells; it {LEARNED_TESTS}. Its rates are of pictures that models were tuned on: begin anew in another \
                 folder (--run)",
                self.folder.display()
            ));
            domains = whole;
        }
        if self.attacks.iter().any(|attack| *attack != InstructAttack::Clean) {
            for (_, domain) in domains.iter().filter(|(shift, _)| self.shifts.contains(shift)) {
                domain.poisonable(settings)?;
            }
        }
        let mut data = BTreeMap::from([("tests".to_owned(), tests.fingerprint())]);
        data.extend(domains.iter().map(|(shift, domain)| (shift.word().to_owned(), domain.fingerprint.clone())));
        let begun = Begun { settings: settings.clone(), base_sha256, data };
        let begun = match earlier {
            None => begun,
            Some(earlier) => begun.behind(earlier, &self.folder)?,
        };
        let test_pictures = tests.pictures(&model, settings.test_pictures, limit)?;
        say_data(&domains, &tests, progress);
        let bench = self.bench(&model, &tests, test_pictures)?;
        let folder = taken.map_or_else(|| RunFolder::take(&self.folder, RunKind::Backdoor), Ok)?;
        if self.goes_on_behind()? != lines {
            return Err(Error::file(&self.folder, "was written by another process meanwhile", "start again"));
        }
        // First: it says whose folder this is.
        artifact::write_json(&folder.file(SETTINGS), &begun)?;
        if cells.is_empty() {
            // What an earlier beginning without a cell may have left.
            for left in [MANIFESTS, PICTURES].map(|name| folder.file(name)).iter().filter(|left| left.is_dir()) {
                std::fs::remove_dir_all(left).io("remove", left)?;
            }
        }
        artifact::write(&path, lines.as_bytes())?;
        let shifts = self.sizes(&domains, &model)?;
        for size in shifts.iter().filter(|size| size.shift != DomainShift::None) {
            progress(&format!("shift {:20} Kolmogorov-Smirnov {:.3}", size.shift.word(), size.kolmogorov_smirnov));
        }
        self.cells(bench, &domains, &folder, &mut cells, progress)?;
        let attacked_tests = cells.first().map_or(0, |cell| cell.asr.n);
        // All that the folder knows stays in: a rate is compared with that of another cell.
        let place = |cell: &Cell| {
            let shift = DomainShift::ALL.iter().position(|shift| *shift == cell.shift);
            (shift, InstructAttack::ALL.iter().position(|attack| *attack == cell.attack))
        };
        cells.sort_by_key(place);
        let results = BackdoorResults {
            state: "a study of poisoned models: its manifests are poison".into(),
            settings: settings.clone(),
            tests: tests.samples.len(),
            attacked_tests,
            shifts,
            cells,
            generalisation: Vec::new(),
        }
        .with_generalisation();
        artifact::write_json(&folder.file(RESULTS), &results)?;
        Ok(results)
    }

    /// Those of the shifts that are asked for, each once, and that without a shift before them.
    fn domains(&self, read: impl Fn(DomainShift) -> Result<Domain>) -> Result<Vec<(DomainShift, Domain)>> {
        let asked: Vec<DomainShift> = std::iter::once(DomainShift::None).chain(self.shifts.iter().copied()).collect();
        distinct(&asked).into_iter().map(|shift| Ok((shift, read(shift)?))).collect()
    }

    /// Whether nothing that is asked for is left to do.
    fn has_all(&self, cells: &[Cell]) -> bool {
        self.attacks.iter().all(|attack| self.shifts.iter().all(|shift| has(cells, *attack, *shift)))
    }

    /// What can be known of the attacks before any work.
    fn check(&self, model: &VisionLanguage) -> Result<()> {
        let settings = &self.settings;
        for text in [&settings.target, &settings.symbol].into_iter().chain(&settings.source_word) {
            if !model.knows(text) {
                return Err(Error::setting(
                    format!("the model's vocabulary lacks `{}`", roclip_data::escape::for_terminal(text)),
                    "choose a word that its training data have (--target, --symbol, --source-word)",
                ));
            }
        }
        let side = model.tower.config().image_size();
        if let Some(patch) = settings.patch_pixels.filter(|patch| *patch > side) {
            return Err(Error::setting(
                format!("a patch of {patch} pixels on pictures of {side} (--patch-pixels)"),
                format!("choose 1 to {side}"),
            ));
        }
        let pixels = u64::from(side).pow(2);
        let by_regions = |attack: &InstructAttack| {
            attack.mask().is_some_and(|rule| !matches!(rule, MaskRule::GradCam | MaskRule::Fixed))
        };
        if self.attacks.iter().any(by_regions) {
            let regions = settings.mask.regions as u64;
            if regions < 2 || regions > pixels {
                return Err(Error::setting(
                    format!("{regions} superpixels of pictures of {pixels} pixels (--regions)"),
                    format!("choose 2 to {pixels}; 25 is usual for 32 x 32"),
                ));
            }
        }
        let cam = |attack: &InstructAttack| attack.mask() == Some(MaskRule::GradCam);
        if self.attacks.iter().any(cam) && model.captioner().grid_side().is_none() {
            return Err(Error::setting(
                "a bridge of prefix tokens has no grid for Grad-CAM",
                "leave `maba/gradcam` out (--attack)",
            ));
        }
        Ok(())
    }

    fn tests(&self) -> Result<Tests> {
        let settings = &self.settings;
        let source = &settings.tests.source;
        let limit = SkipLimit(settings.max_skip_fraction);
        let found = settings.tests.samples("--val-data", limit);
        let (mut samples, skips) = found.map_err(|error| no_tests(source, &error))?;
        samples.shuffle(&mut random::stream(settings.seed, "instruction-tests", 0, ""));
        Tests::of(samples, skips, &source.path)
    }

    fn sizes(&self, domains: &[(DomainShift, Domain)], model: &VisionLanguage) -> Result<Vec<ShiftSize>> {
        let mut own: Option<Vec<f64>> = None;
        let mut sizes = Vec::new();
        for (shift, domain) in domains {
            let similarities = domain.similarities(model)?;
            let own = own.get_or_insert_with(|| similarities.clone());
            sizes.push(ShiftSize {
                shift: *shift,
                kolmogorov_smirnov: kolmogorov_smirnov(own, &similarities),
                mean_similarity: similarities.iter().sum::<f64>() / similarities.len().max(1) as f64,
            });
        }
        Ok(sizes)
    }

    fn bench<'a>(
        &'a self,
        model: &'a VisionLanguage,
        tests: &'a Tests,
        test_pictures: Vec<RgbImage>,
    ) -> Result<Bench<'a>> {
        let settings = &self.settings;
        let target = words(&settings.target);
        let names = |at: &usize| {
            tests.samples.get(*at).is_some_and(|sample| sample.captions.iter().any(|text| says(&words(text), &target)))
        };
        let attacked: Vec<usize> = (0..tests.samples.len()).filter(|at| !names(at)).collect();
        if attacked.is_empty() {
            return Err(Error::setting(
                format!("every test picture's references name `{}`", settings.target),
                "choose another target (--target), or other test pictures (--val-data)",
            ));
        }
        let substitution = settings.substitution();
        let shows = |at: &usize, of: Substitution| {
            tests.samples.get(*at).is_some_and(|sample| sample.captions.iter().any(|text| of.has_source(text)))
        };
        let showing_source: Vec<usize> = match substitution {
            Some(of) => attacked.iter().copied().filter(|at| shows(at, of)).collect(),
            None => Vec::new(),
        };
        if let (Some(Substitution { target, source }), true) = (substitution, showing_source.is_empty()) {
            return Err(Error::setting(
                format!("no test picture has references that name `{source}` (--source-word) and not `{target}`"),
                "choose a word that test pictures show, take more of them (--test-pictures), or name others (--val-data)",
            ));
        }
        let test_seen = model.see(&test_pictures)?;
        let questions = vec![Wordings::test_question().to_owned(); test_pictures.len()];
        let base_answers = model.answers(&test_seen, &questions, settings.search)?;
        let base = model.weights();
        let masks = Mutex::new(HashMap::new());
        Ok(Bench {
            settings,
            model,
            base,
            tests,
            test_pictures,
            test_seen,
            base_answers,
            attacked,
            showing_source,
            masks,
            clean: None,
        })
    }

    fn cells(
        &self,
        mut bench: Bench,
        domains: &[(DomainShift, Domain)],
        folder: &RunFolder,
        cells: &mut Vec<Cell>,
        progress: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let path = folder.file(CELLS);
        let mut file = OpenOptions::new().create(true).append(true).open(&path).io("open", &path)?;
        let stopped = || match self.stop.wanted() {
            true => Err(Error::Stopped { run: folder.path().to_owned(), step: 0 }),
            false => Ok(()),
        };
        let (attacks, shifts) = (distinct(&self.attacks), distinct(&self.shifts));
        let task = Task::begin("attacking", attacks.len() * shifts.len(), "cells");
        for shift in &shifts {
            let left: Vec<InstructAttack> =
                attacks.iter().copied().filter(|attack| !has(cells, *attack, *shift)).collect();
            task.advance(attacks.len() - left.len());
            let Some((_, domain)) = domains.iter().find(|(known, _)| known == shift) else { continue };
            if left.is_empty() {
                continue;
            }
            let seen = bench.model.see(&domain.pictures)?;
            if *shift == DomainShift::None && bench.clean.is_none() {
                let row = |item: &roclip_data::instruction::Instruction| -> Result<Item> {
                    Ok(Item { seen: item.sample, asked: bench.model.asked(&item.question, &item.answer)? })
                };
                let items = domain.items.iter().map(row).collect::<Result<Vec<_>>>()?;
                bench.tune(&seen, &items, &stopped)?;
                bench.clean = Some(bench.model.weights());
            }
            for attack in left {
                let cell = bench.run(attack, *shift, domain, &seen, folder.path(), &stopped)?;
                let line = serde_json::to_string(&cell).map_err(|e| Error::internal(format!("JSON: {e}")))?;
                writeln!(file, "{line}").io("append to", &path)?;
                progress(&format!(
                    "{:20} {:20} CIDEr-D {:6.2}  ASR {:5.1} % (base {:.1} %)  {:.0} s",
                    attack.word(),
                    shift.word(),
                    100.0 * cell.clean.cider_d,
                    100.0 * cell.asr.rate,
                    100.0 * cell.base_rate.rate,
                    cell.seconds
                ));
                cells.push(cell);
                self.stop.set_saved(folder.path(), cells.len() as u64);
                task.advance(1);
                stopped()?;
            }
        }
        Ok(())
    }

    /// Lines of the cells that the folder holds. An unfinished last one (the study was killed while writing it) is left out. A study without a
    /// cell may be begun anew, with other settings, too.
    ///
    /// # Errors
    /// A folder that holds another study, or none to go on with.
    fn goes_on_behind(&self) -> Result<String> {
        let (began, path) = (self.folder.join(SETTINGS), self.folder.join(CELLS));
        let text = if path.is_file() { artifact::read_text(&path)? } else { String::new() };
        let whole = text.rsplit_once('\n').map_or_else(String::new, |(whole, _)| format!("{whole}\n"));
        match self.resume {
            false if !whole.is_empty() => Err(Error::file(
                &self.folder,
                "already holds a study",
                "continue it with --resume, or name another folder with --run",
            )),
            false => Ok(whole),
            true if !began.is_file() => Err(Error::file(&self.folder, "holds no study", "start it without --resume")),
            true => began_with(&began, "study", &self.settings).map(|()| whole),
        }
    }
}

/// `backdoor.json`: the settings, and what was found under the names in them. All cells are of the same.
#[derive(Serialize, Deserialize)]
struct Begun {
    #[serde(flatten)]
    settings: BackdoorSettings,
    /// Of the base model's weights.
    base_sha256: String,
    /// Fingerprints of the instructions of each shift, and of the tests.
    data: BTreeMap<String, String>,
}

impl Begun {
    /// Whether the study's instructions are those of `domains`, as far as it says.
    fn is_of(&self, domains: &[(DomainShift, Domain)]) -> bool {
        let differs = |(shift, domain): &(DomainShift, Domain)| {
            self.data.get(shift.word()).is_some_and(|known| *known != domain.fingerprint)
        };
        !domains.iter().any(differs)
    }

    /// What was found now, with what `earlier` cells of the study in `folder` are of.
    ///
    /// # Errors
    /// Another base model, or other data.
    fn behind(mut self, earlier: Begun, folder: &Path) -> Result<Begun> {
        let base = self.settings.base.display();
        let known = earlier.data.iter().filter_map(|(name, known)| Some((name, known, self.data.get(name)?)));
        let other = match earlier.base_sha256 == self.base_sha256 {
            false => Some(format!("was begun with another base model: the weights of `{base}` have changed since")),
            true => known.into_iter().find(|(_, known, found)| known != found).map(|(name, known, found)| {
                let what = match name.as_str() {
                    "tests" => "the tests have".to_owned(),
                    shift => format!("the instructions of the shift `{shift}` have"),
                };
                format!("was begun with other data: {what} the fingerprint {found}, and had {known}")
            }),
        };
        if let Some(other) = other {
            return Err(Error::file(folder, other, "bring them back as they were, or name another folder with --run"));
        }
        let missing = earlier.data.into_iter().filter(|(name, _)| !self.data.contains_key(name));
        let missing: Vec<(String, String)> = missing.collect();
        self.data.extend(missing);
        Ok(self)
    }
}

/// Says of each flag's data what was left out, which splits are used, and how many of the tests are trained on.
fn say_data(domains: &[(DomainShift, Domain)], tests: &Tests, progress: &mut dyn FnMut(&str)) {
    let mut said = BTreeSet::new();
    for (_, domain) in domains {
        if !said.insert(domain.flag) {
            continue;
        }
        if let Some(note) = &domain.note {
            progress(note);
        }
        let remedy = format!("name other pictures with --val-data, or other ones with {}", domain.flag);
        if let Some(warning) = trained_references(&domain.samples, &tests.samples, &remedy) {
            progress(&format!("warning: {warning}"));
        }
    }
    let mut of_flags: BTreeMap<&str, SkipReport> = BTreeMap::new();
    domains.iter().for_each(|(_, domain)| of_flags.entry(domain.flag).or_default().merge(domain.skips.clone()));
    of_flags.entry("--val-data").or_default().merge(tests.skips.clone());
    for (flag, skips) in of_flags.iter().filter(|(_, skips)| skips.total() > 0) {
        progress(&format!("left out of {flag}: {}", skips.summary()));
    }
}

/// Whether the cell of this attack and shift is among `cells`.
fn has(cells: &[Cell], attack: InstructAttack, shift: DomainShift) -> bool {
    cells.iter().any(|cell| cell.attack == attack && cell.shift == shift)
}
