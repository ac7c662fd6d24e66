//! What a caption is worth beside its references: BLEU, ROUGE and CIDEr-D as the field's Python programs count them, and whether a word
//! that an attacker wants is said.

mod bleu;
mod cider;
mod ngrams;
mod porter;
mod rouge;
mod said;
mod words;

pub use bleu::{Bleu, Smoothing, corpus_bleu, sentence_bleu};
pub use cider::{DocumentFrequencies, cider_d};
pub use porter::{stem, stemmed};
pub use rouge::{Overlap, Rouge, rouge_l, rouge_n};
pub use said::{Substitution, SubstitutionRates, content_recall, says};
pub use words::words;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(serde::Deserialize)]
    struct Golden {
        pictures: Vec<Picture>,
        corpus_bleu: [f64; 4],
        stems: BTreeMap<String, String>,
    }

    #[derive(serde::Deserialize)]
    struct Picture {
        caption: String,
        references: Vec<String>,
        bleu: [f64; 4],
        bleu_add_one: [f64; 4],
        /// Precision, recall and F of ROUGE-1, ROUGE-2 and ROUGE-L, means over the references.
        rouge: [[f64; 3]; 3],
        rouge_stemmed: [[f64; 3]; 3],
        cider_d: f64,
    }

    /// `tests/golden/caption_metrics.py` wrote the file with NLTK, rouge-score and pycocoevalcap.
    #[test]
    fn equals_the_well_known_programs_on_the_golden_file() {
        let golden: Golden =
            serde_json::from_str(include_str!("../../../../tests/golden/caption_metrics.json")).unwrap();
        assert!(golden.pictures.len() >= 60 && golden.stems.len() > 500);
        let references = |picture: &Picture| picture.references.iter().map(|text| words(text)).collect::<Vec<_>>();
        let pool: Vec<Vec<Vec<String>>> = golden.pictures.iter().map(references).collect();
        let captions: Vec<Vec<String>> = golden.pictures.iter().map(|picture| words(&picture.caption)).collect();
        let frequencies = DocumentFrequencies::count(pool.iter().map(Vec::as_slice));
        let close = |a: f64, b: f64, what: &str| assert!((a - b).abs() < 1e-9, "{what}: {a} is not {b}");
        let bleu = |score: Bleu| [score.bleu1, score.bleu2, score.bleu3, score.bleu4];
        let rouge = |score: Rouge| [score.rouge1, score.rouge2, score.rouge_l].map(|o| [o.precision, o.recall, o.f]);
        for ((picture, caption), references) in golden.pictures.iter().zip(&captions).zip(&pool) {
            for (smoothing, theirs) in [(Smoothing::None, picture.bleu), (Smoothing::AddOne, picture.bleu_add_one)] {
                for (a, b) in bleu(sentence_bleu(caption, references, smoothing)).into_iter().zip(theirs) {
                    close(a, b, &picture.caption);
                }
            }
            let stems: Vec<Vec<String>> = references.iter().map(|reference| stemmed(reference)).collect();
            let plain = rouge(Rouge::of(caption, references)).into_iter().zip(picture.rouge);
            let stemmed = rouge(Rouge::of(&stemmed(caption), &stems)).into_iter().zip(picture.rouge_stemmed);
            for (ours, theirs) in plain.chain(stemmed) {
                ours.into_iter().zip(theirs).for_each(|(a, b)| close(a, b, &picture.caption));
            }
            close(cider_d(caption, references, &frequencies), picture.cider_d, &picture.caption);
        }
        let all = captions.iter().zip(&pool).map(|(caption, references)| (caption.as_slice(), references.as_slice()));
        let corpus = bleu(corpus_bleu(all, Smoothing::None));
        // COCO's program adds 1e-9 to its denominators.
        assert!(corpus.iter().zip(golden.corpus_bleu).all(|(a, b)| (a - b).abs() < 1e-7), "{corpus:?}");
        let wrong: Vec<_> = golden.stems.iter().filter(|(word, stemmed)| stem(word) != **stemmed).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
