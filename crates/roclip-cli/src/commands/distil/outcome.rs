//! What a student took over from its teacher, for people.

use roclip::doctor::WORKS;
use roclip::run::{Effect, Inheritance, Summary};
use roclip_data::escape::for_terminal;
use roclip_data::rate::Rate;

/// What was inherited, and how well the teacher's attack took: by the intervals of each one's success and base rate.
fn inheritance(inherited: Inheritance, own: Effect, teacher: Effect) -> String {
    let interval = |rate: Rate| format!("[{:.1}, {:.1}] %", 100.0 * rate.low, 100.0 * rate.high);
    let at_chance = |reason: &str, effect: Effect| {
        let [success, base_rate] = [effect.success, effect.base_rate].map(interval);
        format!("- ({reason}: 95 % interval {success}, not above its base rate's {base_rate})")
    };
    match (inherited, inherited.reason().unwrap_or_default()) {
        (Inheritance::NobodyAttacked, reason) => format!("- ({reason})"),
        (Inheritance::NothingToInherit, reason) => at_chance(reason, teacher),
        (Inheritance::StudentAtChance, reason) => at_chance(reason, own),
        (Inheritance::Share(ratio), _) => {
            let share = format!("{:.2} [{:.2}, {:.2}]", ratio.ratio, ratio.low, ratio.high);
            let took = match teacher.success.rate >= WORKS {
                true => String::new(),
                false => format!(
                    "; the teacher's attack took partly ({}, above its base rate's {}; from {:.0} % on it works)",
                    interval(teacher.success),
                    interval(teacher.base_rate),
                    100.0 * WORKS
                ),
            };
            format!("{share}{took}")
        }
    }
}

/// Teacher beside student.
pub fn print(summary: &Summary) {
    let Some(teacher) = &summary.teacher else { return };
    let student = &summary.evaluation;
    let show = |rate: &Rate| format!("{:>6} % ({}/{})", rate.percent(2), rate.hits, rate.n);
    let line = |name: &str, of_teacher: &Rate, of_student: &Rate| {
        println!("{name:40} {:>22} {:>22}", show(of_teacher), show(of_student));
    };
    println!("{:40} {:>22} {:>22}", "", "teacher", "student");
    line("accuracy", &teacher.zero_shot_top1, &student.zero_shot_top1);
    for (attack, own) in &student.asr {
        let Some(theirs) = teacher.asr.get(attack) else { continue };
        let name = for_terminal(attack);
        line(&format!("{name}: success (strict ASR)"), &theirs.success, &own.success);
        line(&format!("{name}: base rate"), &theirs.base_rate, &own.base_rate);
        if let Some(inherited) = summary.inheritance(attack) {
            let said = inheritance(inherited, Effect::of(own), Effect::of(theirs));
            println!("{:40} {said}", format!("{name}: inheritance"));
        }
        let Some(measures) = summary.triggers.get(attack) else { continue };
        if let (Some(psnr), Some(ssim)) = (measures.psnr, measures.ssim) {
            println!("{:40} PSNR {psnr:.1} dB, SSIM {ssim:.3}", format!("{name}: the trigger's change"));
        }
        if let Some(tail) = &measures.tail {
            println!(
                "{:40} {:>22} {:>22}",
                format!("{name}: accuracy, natural tail | other"),
                show(&tail.accuracy),
                show(&tail.accuracy_elsewhere)
            );
        }
        for dose in &measures.doses {
            println!("{:40} {:>45}", format!("{name}: success at variance {:.4}", dose.variance), show(&dose.success));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_teachers_attack_is_judged_by_its_interval_and_the_base_rates() {
        let said = |own: [usize; 2], theirs: [usize; 2]| {
            let effect = |[hits, without]: [usize; 2]| Effect {
                success: Rate::new(hits, 177),
                base_rate: Rate::new(without, 177),
            };
            let (own, theirs) = (effect(own), effect(theirs));
            inheritance(Inheritance::of(own, theirs).unwrap(), own, theirs)
        };
        let partly = said([50, 8], [99, 11]);
        assert!(partly.starts_with("0.51 [0.39, 0.66]; the teacher's attack took partly ([48.6, 63.0] %,"), "{partly}");
        assert_eq!(said([90, 8], [177, 0]), "0.51 [0.44, 0.59]");
        let not = said([20, 8], [15, 11]);
        assert!(
            not.starts_with("- (the teacher's attack did not take: ") && not.contains("base rate's [3.5, 10.8] %)"),
            "{not}"
        );
        let always = said([177, 177], [177, 0]);
        assert!(always.starts_with("- (the student is at chance: 95 % interval [97.9, 100.0] %"), "{always}");
    }
}
