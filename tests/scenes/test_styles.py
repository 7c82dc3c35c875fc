"Styles are XML that QGIS reads, whatever the classes are called."
from xml.etree import ElementTree

from satseg.core.display import class_colours
from satseg.scenes.styles import qgis_style


def test_styles_are_xml_whatever_the_names():
    root = ElementTree.fromstring(qgis_style(['a\x00b', 'c\x1b[31m', 'd\ufffe', 'e\n"<&']).split('\n', 1)[1])
    assert [o.get('label') for o in root.findall('.//colorPalette/paletteEntry')] == ['a?b', 'c?[31m', 'd?', 'e\n"<&']


def test_styles_are_xml_and_hold_every_class():
    names = ['background', 'a & b', '<i>"x"</i>', "it's", 'Straße']
    root = ElementTree.fromstring(qgis_style(names).split('\n', 1)[1])
    entries = root.findall('.//colorPalette/paletteEntry')
    assert [o.get('label') for o in entries] == names and [o.get('value') for o in entries] == list('01234')
    assert [o.get('color') for o in entries] == ['#%02x%02x%02x' % c for c in class_colours(5)]
    assert [o.get('alpha') for o in entries] == ['0', '255', '255', '255', '255']
    assert root.find('.//rasterrenderer').get('type') == 'paletted' and root.find('.//pixelListEntry').get('min') == '255'
    field = ElementTree.fromstring(qgis_style(['field', 'road'], [(1, 2, 3), (4, 5, 6)]).split('\n', 1)[1]).findall('.//paletteEntry')
    assert [o.get('alpha') for o in field] == ['255', '255']


def test_styles_of_polygons_are_xml_whatever_the_names():
    names = ['a\x00b', 'c\x1b[31m', 'd\ufffe', 'e\n"<&']
    root = ElementTree.fromstring(qgis_style(names, [(1, 2, 3)]*4, polygons=True).split('\n', 1)[1])
    assert [o.get('label') for o in root.iter('category')] == ['a?b', 'c?[31m', 'd?', 'e\n"<&']
    assert [o.get('name') for o in root.iter('symbol')] == list('0123')
