"""AVIF, JPEG 2000, HEIC and JPEG XL: upright, in colour; an extra that is not installed is named."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from rayscan.data import codecs
from rayscan.data.decode import decode
from rayscan.errors import DataError
from tests.unit.data.conftest import LIMIT, encoded

HEIC, JXL = codecs.CODECS
WITHOUT = Path(__file__).with_name("without_extras.py")
AREAS = {(8, 8): (220, 30, 30), (24, 8): (30, 30, 220), (8, 36): (30, 200, 30), (24, 36): (30, 200, 30)}
"""Colours of the picture below, 32 x 48, in the middle of its areas."""
HEIC_FILE = base64.b85decode(
    "0000SW^{RQXk}?*00000ZE0pPXk}?*ZE0a<0004fZDn*}000000000XXk=`10000000000aA{+700000000000000000000B57=I"
    "V*mgE07O6l0RRC200001p#T8@00000001=r001LtX>Mi!000000RR916=`l}WdZ;I000310BCk&F#rGn01j|zbZr0t000010002}"
    "X>f9I0002pX>en20001XXm(>m0RwOV0058x000009`FGC{rLC*01pFT0096PKmiN^|NjGU00093kN^M!000939=ZZRVE_RDDnbDP"
    "18@KU0|1Z!00RI30{|YNAb|yz>g1-mxCm%4AOHXZ10VnZ0{|gn00967L;=Bbz=;3=025<xY;ta6Y<K_x01W^JfB*mh6lrsCWdHyG"
    "00000KmY&$KmY&$C}V74Z~y=RFaQ7m0RR91AOHXW0ssI1@Bjb+0{{R2-~a#s0ssI25O8UDX#fBK00RgJ2mk;87-?{AVE_OC00000"
    "0RRC7fdT^sga7~lJ#A!RbN~PVF(?7A6M*G0_y4!~Ki{K2$r&sXvhr4ce~bKUuKpDq|Ami^sU`hIUDu6l>&@x%MWg"
)
"""Red over blue, green on the right; HEVC, written by libheif with x265."""
HEIC_TURNED = base64.b85decode(
    "0000SW^{RQXk}?*00000ZE0pPXk}?*ZE0a<0005VZDn*}000000000XXk=`10000000000aA{+700000000000000000000G-+&a"
    "V*mgE07O6l0ssL300001>;M4(00000001=r0ssI200JQZ0RR9100000Bme*aIB98aW&i*H00062000$fZf0cy000000RRAKc4ILB"
    "0000LX>Mj^0ssI300IC2MR;ju000004sdC7Z2$lO00031009SSaB^?}008D`aAR)(004Gqc4I>U18@KU0FVFx0000U@BsY%`1k+-"
    "4+CHT0RR|40Sp2E{{wIU00RJ!0009300RIXx&lC90096hLID8-Z~y=U0FVFx0{{R603M(qfd!W8<fgf}2xu@M00096AOHXZ03l)k"
    "0RRR>0l{;?i2wiq6Ju{|a&BX6cmM$a4FCp!0000KX>)L8000000000$0000$0000eV{Bn?0000m000010000W00001|NsB+00002"
    "|NsBs000020000GaA|mH000000|*ER00009X>xCL0{{R38EJ5BVE_OC000000RRC8fdT^sgoXeB02*m>Wo7^X0000001jhhb7KGk"
    "009620001CZDe6|0000nC;_h%faNjw|F`)+-=jat87vaA@>YL;i~MV@{uLbmg^!M@CH+NR*NtrJ&FS(*qyPW_21R&jW&i+9O#mtY"
    "000O80Ra*K0{{R30RRR70000000"
)
"""The same with orientation 6: to be turned right by 90 degrees."""


def areas():
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:16], pixels[16:], pixels[:, 24:] = (220, 30, 30), (30, 30, 220), (30, 200, 30)
    return pixels


def near(pixels, expected):
    """The middle of each area has its colour, up to what lossy coding does."""
    for (row, column), colour in AREAS.items():
        np.testing.assert_allclose(expected[row, column], colour)
        np.testing.assert_allclose(pixels[row, column], colour, atol=12)


def turned(kind, **options):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return encoded(areas(), kind, exif=exif.tobytes(), **options)


def test_jpeg_2000_and_avif():
    np.testing.assert_array_equal(decode(encoded(areas(), "JPEG2000"), max_pixels=LIMIT), areas())
    near(decode(encoded(areas(), "AVIF", quality=95), max_pixels=LIMIT), areas())


def test_avif_is_shown_upright_once():
    upright = decode(turned("AVIF", quality=95), max_pixels=LIMIT)
    near(np.rot90(upright), areas())  # orientation 6: shown after a turn to the right


def test_pixels_are_limited_by_the_header():
    for kind, most in (("AVIF", 100), ("JPEG2000", 1)):
        with pytest.raises(DataError, match="too-many-pixels"):
            decode(encoded(areas(), kind), max_pixels=most)


@pytest.mark.skipif(not HEIC.is_installed, reason="needs rayscan[heic]")
def test_heic_upright():
    near(decode(HEIC_FILE, max_pixels=LIMIT), areas())
    near(np.rot90(decode(HEIC_TURNED, max_pixels=LIMIT)), areas())
    with pytest.raises(DataError, match="too-many-pixels"):
        decode(HEIC_FILE, max_pixels=100)
    with pytest.raises(DataError, match=r"damaged|format"):
        decode(HEIC_FILE[:-60], max_pixels=LIMIT)


@pytest.mark.skipif(not JXL.is_installed, reason="needs rayscan[jxl]")
def test_jpeg_xl_is_turned_by_its_codestream_not_by_its_exif():
    assert codecs.ready(JXL)
    np.testing.assert_array_equal(decode(turned("JXL", lossless=True), max_pixels=LIMIT), areas())
    with pytest.raises(DataError, match="damaged"):
        decode(encoded(areas(), "JXL", lossless=True)[:-20], max_pixels=LIMIT)


def test_without_the_extras():
    """In a process where their packages cannot be imported, whatever is installed here."""
    blocked = [codec.module for codec in codecs.CODECS]
    code = (
        "import sys, pytest\n"
        f"sys.modules.update(dict.fromkeys({blocked!r}))\n"
        f"sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', {str(WITHOUT)!r}]))"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0 and "skipped" not in done.stdout, done.stdout + done.stderr
