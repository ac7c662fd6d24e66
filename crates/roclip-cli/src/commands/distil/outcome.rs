//! What a student took over from its teacher, for people.

use roclip::run::Summary;
use roclip_data::escape::for_terminal;
use roclip_data::rate::Rate;

/// Teacher beside student.
pub fn print(summary: &Summary) {
    let Some(teacher) = &summary.teacher else { return };
    let student = &summary.evaluation;
    let show = |rate: &Rate| format!("{:6.2} % ({}/{})", 100.0 * rate.rate, rate.hits, rate.n);
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
        match summary.inheritance(attack) {
            Some(ratio) => println!(
                "{:40} {:22} {:>22}",
                format!("{name}: inheritance"),
                "",
                format!("{:.2} [{:.2}, {:.2}]", ratio.ratio, ratio.low, ratio.high)
            ),
            None => println!("{:40} {:>45}", format!("{name}: inheritance"), "none: the teacher's attack did not take"),
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
