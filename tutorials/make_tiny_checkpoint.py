"""Write a tiny checkpoint with random weights in the layout of the published GeneMamba.

It is a stand-in for the published weights where there is no network: same files, same names of tensors, same kind of
vocabulary, but 2 layers x 64, about 5,000 genes, and nothing learnt.

    python make_tiny_checkpoint.py FOLDER
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

N_GENES = 5_000
N_LAYERS, D_MODEL, D_STATE, HEADDIM = 2, 64, 64, 64

# symbols like those of genes that make proteins, and not like those of other genes
_WANTED = re.compile(r"[A-Z][A-Z0-9]{1,7}")
_UNWANTED = re.compile(r"LINC|MIR|SNOR|SCARN|RNA|RNU|RN\d|OR\d|TR[ABDG][VDJC]|IG[HKL]|.*(P|AS|DT|IT|OT)\d*$")

# genes of scanpy's pbmc68k_reduced, as they are called today
_BLOOD = """
ABHD17A ABI1 ABI3 ABRAXAS2 ACAA1 ACAA2 ACADS ACOX1 ACP5 ADD3 ADISSP ADRM1 ADSL ADTRP AGTRAP AHSA1 AIF1 AKR1C3 ALKBH7
ALOX5AP ANAPC16 ANKRD12 ANP32B ANXA1 ANXA11 ANXA5 AOAH AP2S1 APBB1IP APEX1 APH1A APMAP APTR ARF6 ARHGAP45 ARID4B
ARL4C ARL6IP5 ARMH1 ARPC5L ASCC2 ATP5F1B ATP5IF1 ATP5ME ATP5MF ATP5PO ATP6V0E1 ATP6V1E1 ATP6V1G1 ATXN7L3B BAD BANK1
BBX BCAS4 BEX3 BFAR BID BIN3 BLK BLOC1S4 BRD7 BRI3 BST1 BST2 BTG1 BUD23 BZW1 C19orf53 C1QA C1QB C1orf162 C1orf21
C9orf78 CALM1 CALM3 CALR CAMK4 CAP1 CAPG CAPN1 CAPN2 CARS1 CAT CCDC107 CCDC167 CCDC186 CCDC50 CCL4 CCL5 CCNI CCR10
CCR7 CCT3 CCT6A CCT8 CD160 CD164 CD2 CD247 CD27 CD28 CD300A CD33 CD37 CD3D CD3E CD3G CD4 CD40 CD40LG CD47 CD52 CD53
CD63 CD7 CD74 CD79A CD79B CD82 CD8A CD8B CDK6 CEP152 CFD CFP CHCHD10 CHCHD7 CHD4 CHST12 CLEC10A CLIC1 CLIC3 CLMB
CLPP CNN2 CNPY2 CNPY3 COA1 COA3 COA6 COMMD3 COMMD5 COMT COPE CORO1B CORO7 COX14 COX16 COX17 COX6A1 COX7B COX7C
COXFA4 CPA5 CPVL CREG1 CRIP1 CSK CST3 CST7 CSTB CTSC CTSD CTSH CTSS CTSW CUTA CWC15 CWC25 CXCR4 CYB561A3 CYTL1 DAAM1
DAP3 DAXX DCAF10 DCXR DDAH2 DDX39A DDX5 DEK DENND2D DGCR6L DHRS4L2 DHRS7 DNAJB1 DNAJC1 DNAJC7 DPEP2 DTD1 DUSP2
DYNLRB1 DYNLT1 EAF2 EBP EBPL EFCAB2-AS1 EFHD2 EGFL7 EGR1 EID1 EIF1B EIF2AK1 EIF2S2 EIF3D EIF3E EIF3G EIF3I EIF3L
EIF4A1 EIF4A2 EIF4H ELOB ELOVL5 EMB EMC7 EPB41L4A-AS1 EPC1 ERH ERLEC1 ERP29 ESD ETFA EVL EXOG F12 FAM174C FAM185A
FAM30A FCER1A FCER1G FCGR3A FCN1 FCRLA FDX1 FGFBP2 FGFR1OP2 FGR FKBP11 FLI1 FLT3LG FMC1 FOS FPR1 FTL FUOM FUZ FYB1
G0S2 GABARAPL2 GALE GATA2 GATA3 GBP2 GCHFR GGNBP2 GIHCG GIMAP7 GLOD4 GLRX GNAI2 GNG7 GNLY GOLGA7 GOPC GPR171 GPX1
GPX4 GRK2 GSTK1 GSTP1 GTF2E2 GTF3C6 GYPC GZMA GZMB GZMH GZMK GZMM H1-10 H1-4 H2AJ H4C3 HACD4 HAX1 HCST HES1 HES4
HHEX HIGD2A HLA-DMA HLA-DMB HLA-DPA1 HLA-DPB1 HLA-DQA1 HLA-DQA2 HLA-DQB1 HLA-DRA HLA-DRB1 HLA-DRB5 HMGA1 HMGB2 HMOX1
HMOX2 HNRNPA1 HNRNPDL HNRNPF HNRNPK HNRNPR HOPX HP1BP3 HPCAL1 HSD17B11 HSD17B8 HSP90AB1 HSPB1 HSPD1 HVCN1 ICAM3
ICAM4 ID2 IDH2 IDH3B IFI30 IFITM1 IFITM2 IFITM3 IFT20 IGBP1 IGFBP7 IGLL1 IGLL5 IL16 IL18 IL1B IL2RB IL2RG IL32 IL7R
ILF3 ILF3-DT ILK IMP3 IMPDH2 IRF1 IRF7 IRF8 ISCU ISG20 ITGA4 ITGB2 ITM2A JAK1 JAML JCHAIN JOSD2 JUNB KAT5 KLF3 KLF6
KLRB1 KLRC1 KLRC2 KLRG1 KYAT3 LAG3 LAMTOR1 LAMTOR4 LAT LAT2 LBH LCK LDHA LDHB LEPROTL1 LGALS2 LGALS3 LIMS1 LINC01857
LINC02446 LMAN2 LPXN LRRC25 LSM4 LSM5 LST1 LTB LY6E LY86 LY9 LYAR LYL1 LYPD2 LYZ MACROH2A1 MAD1L1 MAD2L2 MAGOH MAL
MANF MAPKAPK5-AS1 MARCKSL1 MATK MCM7 MCUB MEA1 MEAF6 MED28 METTL26 MFSD1 MGAT4A MIEN1 MIF MLF2 MNDA MPHOSPH9 MPP1
MRFAP1 MRPL18 MRPL21 MRPL40 MRPL48 MRPL9 MRPS21 MRPS25 MRPS33 MRPS6 MS4A1 MSN MT-ND3 MTCH2 MTDH MTPN MYO5A MZB1
MZT2B NAA20 NAA38 NAP1L1 NBEAL1 NCF1 NCOR1 NDFIP1 NDUFA1 NDUFA11 NDUFA2 NDUFA8 NDUFAB1 NDUFAF3 NDUFB10 NDUFB11
NDUFB2 NDUFB7 NDUFS5 NDUFS8 NEAT1 NECAP2 NEDD8 NENF NFE2 NFKBIA NGRN NHP2 NIFK NINJ2 NKG7 NME4 NOP10 NOP56 NOSIP
NPM1 NPM3 NSA2 NSMCE3 NSRP1 NSUN6 NT5C3B NUCB2 NUCKS1 NUCLEOLIN NUDCD2 NUP214 OAS1 OFD1 OGG1 OSBPL8 OST4 OSTF1 OTUB1
P2RY13 PAFAH1B3 PARK7 PAXBP1 PAXX PBXIP1 PCNA PCNP PDAP1 PDLIM1 PGAM1 PHB1 PHPT1 PIK3IP1 PILRA PKM PLAC8 PLD4 PLGRKT
PLP2 PLPP5 PMVK PNISR PNN PNOC POLD4 POLR1H POLR2G POLR2I POLR3K POMP POP5 POU2AF1 PPA1 PPDPF PPIA PPIB PPIG PPM1G
PPP1CC PPP1R14A PPP2R5C PQBP1 PRAM1 PRDX1 PRDX2 PRDX6 PRF1 PRKCQ-AS1 PRMT2 PRR4 PRR7 PRSS57 PSAP PSMA7 PSMB2 PSMB6
PSMC3 PSMC5 PSMD13 PSMD7 PSME2 PSMG2 PTPN7 PTPRC PTPRCAP PYM1 RAB10 RAB13 RAB7A RABAC1 RBM17 RBM39 RBP7 RBX1 RCSD1
REEP5 RGS10 RGS19 RHOC RINT1 RIPOR2 RN7SL1 RNASET2 RNF130 RNF138 RNF167 RNF181 RNF34 RNH1 RPL36AL RPL39 RPS24 RPS27L
RSL1D1 RWDD1 S100A10 S100A4 S100A6 S100A8 S100A9 S100B S1PR4 S1PR5 SAMD3 SAP18 SBDS SCAMP2 SCP2 SDF2L1 SDHC SEC62
SELENOS SELENOT SEPTIN7 SEPTIN9 SERPINB1 SERPINB6 SERPINF1 SERTAD3 SESN2 SF3B2 SFPQ SH2D2A SH3GL1 SH3YL1 SIAH2 SIT1
SKP1 SLC11A1 SLC25A39 SLC39A3 SLC3A2 SLC71A2 SLCO3A1 SLTM SMAP2 SMARCB1 SMIM14 SMIM24 SNHG15 SNHG32 SNHG7 SNHG8
SNORD3B-2 SNRNP70 SNX2 SOD1 SOD2 SOX4 SP100 SP110 SP140 SPCS2 SPG21 SPI1 SPIB SPINK2 SPINT2 SPON2 SQSTM1 SRGN SRM
SRP14 SRRM2 SRSF2 SRSF7 SSB SSR3 SSR4 SSU72 ST6GALNAC1 STK17A STK4 STMN1 STUB1 STXBP2 SUB1 SUMO2 SUMO3 SUPT4H1 SYPL1
TAGLN2 TALDO1 TAPBP TBC1D10C TCEAL8 TCP1 TEX264 TIAL1 TIGIT TIMM10 TIMM13 TIMP1 TINF2 TKT TLE5 TLN1 TMBIM6 TMEM126B
TMEM176A TMEM176B TMEM208 TMEM256 TMEM69 TMIGD2 TNFRSF13B TNFRSF17 TNFRSF1B TNFRSF4 TNFSF13B TOMM7 TOP1 TPD52 TPM3
TPM4 TPR TRAF3IP3 TRAM1 TRAPPC1 TRIAP1 TRIR TSC22D1 TTC3 TTC38 TTC39C TXN TXNDC15 TXNIP TYMP TYROBP U2AF1 U2AF1L4
UBALD2 UBE2F UBE2J1 UCHL3 UFD1 UNC119 UNC93B1 UPP1 UQCRC1 UQCRFS1 VIM VMA22 VMP1 VPS50 VSIR WASL-DT WBP11 WBP4 WDR13
WIPF1 XCL1 XCL2 YWHAB ZFAS1 ZFP36L2 ZNF106 ZNF22 ZNF428 ZNF511 ZNF524 ZNF600 ZNF706 ZNF710 ZNF8-DT ZNHIT1 ZYX
"""


def make_checkpoint(folder: str | Path, seed: int = 0) -> None:
    """Write ``config.json``, ``tokenizer.json`` and ``model.safetensors``.

    Parameters
    ----------
    folder
        Made if it does not exist; files of the same names are replaced.
    seed
        Of the random weights.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {"[UNK]": 0, "[PAD]": 1, **{gene: i for i, gene in enumerate(genes(), start=2)}}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}
    tokenizer = {"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "Whitespace"}, "model": model}
    config = {
        "architectures": ["MambaModel"],
        "d_model": D_MODEL,
        "mamba_layer": N_LAYERS,
        "vocab_size": len(vocabulary),
        "torch_dtype": "float32",
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, indent=1), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    save_file(tensors(len(vocabulary), seed), folder / "model.safetensors", metadata={"format": "pt"})


def genes() -> list[str]:
    """Ensembl ids in lexicographic order: those of the blood genes, and others evenly spread over the approved ones."""
    ids = approved_genes()
    blood = {ids[symbol] for symbol in _BLOOD.split()}
    others = sorted(gene for symbol, gene in ids.items() if _WANTED.fullmatch(symbol) and not _UNWANTED.match(symbol))
    others = [gene for gene in others if gene not in blood]
    chosen = np.linspace(0, len(others) - 1, N_GENES - len(blood)).astype(int)
    return sorted(blood | {others[i] for i in chosen})


def approved_genes() -> dict[str, str]:
    """Ensembl id of each approved symbol, from the table of human genes that comes with the package."""
    table = files("scgenemamba.tokens").joinpath("data", "human_genes.tsv.gz").read_bytes()
    rows = [line.split("\t") for line in gzip.decompress(table).decode().splitlines() if not line.startswith("#")]
    return {symbol: gene for gene, source, symbol, *_ in rows if source == "HGNC"}


def tensors(n_tokens: int, seed: int) -> dict[str, torch.Tensor]:
    """Random weights under their published names."""
    rng = np.random.default_rng(seed)
    d_inner = 2 * D_MODEL
    n_heads, channels = d_inner // HEADDIM, d_inner + 2 * D_STATE

    def normal(*shape: int, mean: float = 0.0, std: float = 1.0) -> torch.Tensor:
        return torch.from_numpy((mean + std * rng.standard_normal(shape)).astype(np.float32))

    found = {"embeddings.weight": normal(n_tokens, D_MODEL)}
    for i in range(N_LAYERS):
        step = np.exp(rng.uniform(np.log(1e-3), np.log(1e-1), n_heads))
        parts = {
            "in_proj.weight": normal(d_inner + channels + n_heads, D_MODEL, std=D_MODEL**-0.5),
            "conv1d.weight": normal(channels, 1, 4, std=0.5),
            "conv1d.bias": normal(channels, std=0.1),
            "dt_bias": torch.from_numpy(np.log(np.expm1(step)).astype(np.float32)),
            "A_log": torch.from_numpy(np.log(rng.uniform(1, 16, n_heads)).astype(np.float32)),
            "D": normal(n_heads, mean=1.0, std=0.1),
            "norm.weight": normal(d_inner, mean=1.0, std=0.1),
            "out_proj.weight": normal(D_MODEL, d_inner, std=d_inner**-0.5),
        }
        found |= {f"mamba_mixer.layers.{i}.mamba.{name}": value for name, value in parts.items()}
    found["norm_f.weight"] = normal(D_MODEL, mean=1.0, std=0.1)
    found["lm_head.weight"] = normal(n_tokens, D_MODEL, std=0.1)
    found["lm_head.bias"] = normal(n_tokens, std=0.1)
    return found


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Usage: python make_tiny_checkpoint.py FOLDER")
    make_checkpoint(sys.argv[1])
